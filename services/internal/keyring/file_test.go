package keyring_test

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

var secretText = base64.StdEncoding.EncodeToString(testKey("2026-11").Secret)

func writeKeys(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestLoad(t *testing.T) {
	path := writeKeys(t, `{"primary":"2026-11","keys":[{"name":"2026-11","secret":"`+secretText+`"}]}`)
	k, err := keyring.Load(path)
	require.NoError(t, err)
	require.Equal(t, "2026-11", k.Primary())

	opened, err := k.Open(purposeA, newRing(t, "2026-11").Seal(purposeA, []byte("secret"), "acme"), "acme")
	require.NoError(t, err)
	require.Equal(t, "secret", string(opened))
}

func TestLoad_badFile_saysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"empty":          {"", "not the JSON of a keys file"},
		"broken":         {`{"primary":`, "not the JSON of a keys file"},
		"unknown field":  {`{"primary":"a","keys":[],"extra":1}`, "not the JSON of a keys file"},
		"secret number":  {`{"primary":"a","keys":[{"name":"a","secret":123456789}]}`, "not the JSON of a keys file"},
		"more after it":  {`{"primary":"a","keys":[]}{}`, "more after the JSON"},
		"no keys":        {`{"primary":"a","keys":[]}`, "there are no keys"},
		"no primary":     {`{"keys":[{"name":"a","secret":"` + secretText + `"}]}`, `the primary key "" is not among`},
		"not base64":     {`{"primary":"a","keys":[{"name":"a","secret":"*` + secretText[1:] + `"}]}`, `secret of "a" is not base64`},
		"short secret":   {`{"primary":"a","keys":[{"name":"a","secret":"AAAA"}]}`, "has 3 bytes, want 32"},
		"too large file": {strings.Repeat(" ", 1<<20+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeKeys(t, c.content)
			_, err := keyring.Load(path)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			require.NotContains(t, err.Error(), "123456789")
			require.NotContains(t, err.Error(), secretText[1:])
		})
	}
}

func TestLoad_readableByOthers_refused(t *testing.T) {
	path := writeKeys(t, `{"primary":"2026-11","keys":[{"name":"2026-11","secret":"`+secretText+`"}]}`)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o610} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := keyring.Load(path)
		require.ErrorContains(t, err, "chmod 600", "mode %o", mode)
	}
	require.NoError(t, os.Chmod(path, 0o400))
	_, err := keyring.Load(path)
	require.NoError(t, err)
}

func TestLoad_noRegularFile_refused(t *testing.T) {
	_, err := keyring.Load(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
	_, err = keyring.Load(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestGenerate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, keyring.Generate(path))

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the file")

	k, err := keyring.Load(path)
	require.NoError(t, err)
	require.NotEmpty(t, k.Primary())
}

func TestGenerate_existingFile_leftAlone(t *testing.T) {
	path := writeKeys(t, "precious")
	require.ErrorIs(t, keyring.Generate(path), fs.ErrExist)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))
}

func TestGenerate_differentEachTime(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		path := filepath.Join(t.TempDir(), "keys.json")
		require.NoError(t, keyring.Generate(path))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		var file struct {
			Keys []struct{ Secret string }
		}
		require.NoError(t, json.Unmarshal(content, &file))
		require.False(t, seen[file.Keys[0].Secret])
		seen[file.Keys[0].Secret] = true
	}
}

// Processes that start together on one data folder end with the same keys.
func TestLoadOrGenerate_together_sameKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	rings := make([]*keyring.Keyring, 8)
	errs := make([]error, len(rings))
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() { rings[i], errs[i] = keyring.LoadOrGenerate(path) })
	}
	wg.Wait()
	for i := range rings {
		require.NoError(t, errs[i])
		require.True(t, rings[0].VerifyMAC(purposeA, rings[i].MAC(purposeA, "word"), "word"))
	}
}

func TestLoadOrGenerate_damagedFile_notReplaced(t *testing.T) {
	path := writeKeys(t, "damaged")
	_, err := keyring.LoadOrGenerate(path)
	require.ErrorContains(t, err, "not the JSON of a keys file")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "damaged", string(content))
}

func TestReload(t *testing.T) {
	other := base64.StdEncoding.EncodeToString(testKey("2026-12").Secret)
	path := writeKeys(t, `{"primary":"2026-11","keys":[{"name":"2026-11","secret":"`+secretText+`"}]}`)
	k, err := keyring.Load(path)
	require.NoError(t, err)
	sealed := k.Seal(purposeA, []byte("secret"))

	require.NoError(t, os.WriteFile(path, []byte(`{"primary":"2026-12"`), 0o600))
	_, err = k.Reload(path)
	require.Error(t, err)
	require.Equal(t, "2026-11", k.Primary(), "a broken file changes nothing")

	require.NoError(t, os.WriteFile(path, []byte(`{"primary":"2026-12","keys":[
		{"name":"2026-12","secret":"`+other+`"},{"name":"2026-11","secret":"`+secretText+`"}]}`), 0o600))
	change, err := k.Reload(path)
	require.NoError(t, err)
	require.Equal(t, keyring.Change{Added: []string{"2026-12"}, Promoted: true}, change)
	require.Equal(t, "2026-12", k.Primary())
	require.True(t, k.Outdated(sealed))
	_, err = k.Open(purposeA, sealed)
	require.NoError(t, err)
}
