package keyring_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

func generated(t *testing.T) (path, primary string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, keyring.Generate(path))
	return path, names(t, path)[0]
}

func names(t *testing.T, path string) []string {
	t.Helper()
	k, err := keyring.Load(path)
	require.NoError(t, err)
	return k.Names()
}

func TestEdit_wholeRotation(t *testing.T) {
	path, old := generated(t)
	require.NoError(t, os.Chmod(path, 0o400))
	running, err := keyring.Load(path)
	require.NoError(t, err)
	sealed := running.Seal(purposeA, []byte("secret"), "acme")

	added, err := keyring.Add(path, "2027-01")
	require.NoError(t, err)
	require.Equal(t, "2027-01", added)
	require.Equal(t, []string{old, "2027-01"}, names(t, path))
	change, err := running.Reload(path)
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Added: []string{"2027-01"}}, change)

	require.NoError(t, keyring.Promote(path, "2027-01"))
	change, err = running.Reload(path)
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Promoted: true}, change)
	require.True(t, running.Outdated(sealed))

	require.ErrorContains(t, keyring.Remove(path, "2027-01"), "is the primary key")
	require.NoError(t, keyring.Remove(path, old))
	require.Equal(t, []string{"2027-01"}, names(t, path))
	change, err = running.Reload(path)
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Removed: []string{old}}, change)
	_, err = running.Open(purposeA, sealed, "acme")
	require.ErrorIs(t, err, keyring.ErrUnknownKey)

	change, err = running.Reload(path)
	require.NoError(t, err)
	require.True(t, change.None())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o400), info.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the file")
}

func TestEdit_refused_changesNothing(t *testing.T) {
	path, old := generated(t)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	for want, edit := range map[string]func() error{
		"is used twice":         func() error { _, err := keyring.Add(path, old); return err },
		"letters, digits":       func() error { _, err := keyring.Add(path, "a b"); return err },
		`there is no key "x"`:   func() error { return keyring.Promote(path, "x") },
		`there is no key "y"`:   func() error { return keyring.Remove(path, "y") },
		"no such file":          func() error { return keyring.Promote(path+"x", old) },
		"somebody else is chan": func() error { return whileLocked(t, path, func() error { return keyring.Promote(path, old) }) },
		"chmod 600": func() error {
			require.NoError(t, os.Chmod(path, 0o644)) //nolint:gosec // what must be refused
			defer func() { require.NoError(t, os.Chmod(path, 0o600)) }()
			return keyring.Promote(path, old)
		},
	} {
		require.ErrorContains(t, edit(), want)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), want)
	}
	require.NoError(t, keyring.Promote(path, old), "no lock is left behind")
}

func whileLocked(t *testing.T, path string, edit func() error) error {
	t.Helper()
	lock := filepath.Join(filepath.Dir(path), ".keys.json.new")
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	err := edit()
	require.NoError(t, os.Remove(lock))
	return err
}

// The secret of a key that is in use was changed by hand.
func TestReload_otherSecretUnderTheName_refused(t *testing.T) {
	path, old := generated(t)
	k, err := keyring.Load(path)
	require.NoError(t, err)
	sealed := k.Seal(purposeA, []byte("secret"))
	content, err := json.Marshal(map[string]any{"primary": old, "keys": []map[string]string{{"name": old, "secret": secretText}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o600))

	_, err = k.Reload(path)
	require.ErrorContains(t, err, "a new secret needs a new name")
	require.NotContains(t, err.Error(), secretText)
	_, err = k.Open(purposeA, sealed)
	require.NoError(t, err)
}

// follow follows a file that is looked at whenever the returned function is called,
// and says what came of each look.
func follow(t *testing.T, k *keyring.Keyring, path string) (look func() any) {
	t.Helper()
	now, seen, ended := make(chan os.Signal), make(chan any, 1), make(chan error, 1)
	ctx := t.Context()
	go func() {
		ended <- k.Follow(ctx, keyring.Watch{
			Path: path, Every: time.Hour, Now: now,
			Changed: func(c keyring.Change) { seen <- c }, Failed: func(err error) { seen <- err },
		})
	}()
	t.Cleanup(func() { require.NoError(t, <-ended) })
	return func() any {
		now <- os.Interrupt
		return <-seen
	}
}

func TestFollow_brokenFile_keepsTheKeys(t *testing.T) {
	path, old := generated(t)
	k, err := keyring.Load(path)
	require.NoError(t, err)
	look := follow(t, k, path)
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(path, good[:len(good)/2], 0o600)) //nolint:gosec // in the folder of the test
	require.ErrorContains(t, look().(error), "not the JSON of a keys file")
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, look().(error), fs.ErrNotExist)
	require.Equal(t, []string{old}, k.Names())

	require.NoError(t, os.WriteFile(path, good, 0o600)) //nolint:gosec // in the folder of the test
	_, err = keyring.Add(path, "next")
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Added: []string{"next"}}, look())
	require.Equal(t, []string{old, "next"}, k.Names())
}

// Kubernetes: keys.json → ..data/keys.json, ..data → a folder that is made anew.
func TestFollow_swappedSymlink(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"1", "2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o700))
		require.NoError(t, keyring.Generate(filepath.Join(dir, folder, "keys.json")))
	}
	data, path := filepath.Join(dir, "..data"), filepath.Join(dir, "keys.json")
	require.NoError(t, os.Symlink("1", data))
	require.NoError(t, os.Symlink("..data/keys.json", path))
	k, err := keyring.Load(path)
	require.NoError(t, err)
	look := follow(t, k, path)

	require.NoError(t, os.Symlink("2", data+"_tmp"))
	require.NoError(t, os.Rename(data+"_tmp", data))
	change := look().(keyring.Change)
	require.True(t, change.Promoted)
	require.Equal(t, names(t, filepath.Join(dir, "2", "keys.json")), k.Names())

	// A change by the path changes the file below and leaves the links.
	_, err = keyring.Add(path, "next")
	require.NoError(t, err)
	require.Len(t, names(t, filepath.Join(dir, "2", "keys.json")), 2)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&fs.ModeSymlink)
}

func TestFollow_looksByItself(t *testing.T) {
	path, _ := generated(t)
	k, err := keyring.Load(path)
	require.NoError(t, err)
	changed, ended := make(chan keyring.Change, 1), make(chan error, 1)
	ctx := t.Context()
	go func() {
		ended <- k.Follow(ctx, keyring.Watch{
			Path: path, Every: time.Millisecond,
			Changed: func(c keyring.Change) { changed <- c }, Failed: func(err error) { t.Errorf("reload: %v", err) },
		})
	}()
	t.Cleanup(func() { require.NoError(t, <-ended) })
	added, err := keyring.Add(path, "")
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Added: []string{added}}, <-changed)
}

func TestKeyOf(t *testing.T) {
	k := newRing(t, "2026-11")
	for _, value := range [][]byte{k.Seal(purposeA, []byte("x")), k.MAC(purposeA, "x")} {
		name, err := keyring.KeyOf(value)
		require.NoError(t, err)
		require.Equal(t, "2026-11", name)
		require.NoError(t, k.CanRead(value))
		require.ErrorIs(t, newRing(t, "2026-12").CanRead(value), keyring.ErrUnknownKey)
	}
	for _, value := range [][]byte{nil, {}, {1}, {2, 200}, []byte("text")} {
		_, err := keyring.KeyOf(value)
		require.ErrorIs(t, err, keyring.ErrMalformed)
		require.ErrorIs(t, k.CanRead(value), keyring.ErrMalformed)
	}
}

func TestMACs_primaryFirst(t *testing.T) {
	old, both := newRing(t, "b"), newRing(t, "c", "b", "a")
	macs := both.MACs(purposeA, "acme", "x")
	require.Len(t, macs, 3)
	require.Equal(t, both.MAC(purposeA, "acme", "x"), macs[0])
	require.Equal(t, old.MAC(purposeA, "acme", "x"), macs[2])
}
