package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFileSize is far above any sensible keys file. It bounds what a wrong path
// can make a process read.
const maxFileSize = 1 << 20

// keysFile is the JSON of a keys file:
//
//	{"primary": "2026-11", "keys": [{"name": "2026-11", "secret": "<base64, 32 bytes>"}]}
type keysFile struct {
	Primary string     `json:"primary"`
	Keys    []keyEntry `json:"keys"`
}

// keyEntry keeps the secret as text, so that the JSON decoder has no say in how
// strictly base64 is read.
type keyEntry struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

// Load reads a keys file. The file must be a regular one that nobody but the
// process can read: it is for its owner alone, or belongs to root and is handed
// to the process's group, as Kubernetes does it. Errors name the file and what to
// do, never a secret.
func Load(path string) (*Keyring, error) {
	primary, keys, err := readFile(path)
	if err != nil {
		return nil, err
	}
	k, err := New(primary, keys...)
	if err != nil {
		return nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	return k, nil
}

// Reload reads the keys file again, swaps the keys at once, and says what is
// different. When it returns an error the old keys are still in place.
func (k *Keyring) Reload(path string) (Change, error) {
	primary, keys, err := readFile(path)
	if err != nil {
		return Change{}, err
	}
	change, err := k.replace(primary, keys)
	if err != nil {
		return Change{}, fmt.Errorf("keys file %s: %w", path, err)
	}
	return change, nil
}

// Generate writes a keys file with one fresh key, readable by its owner only. A
// file that is already there is left alone, and the error then is fs.ErrExist:
// overwriting keys makes everything sealed under them unreadable.
func Generate(path string) error {
	content, err := freshFile()
	if err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	// Written beside its place and then linked: a process killed half way leaves
	// no half file, and of two that start at once only one wins.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // 0600 by its contract
	if err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := writeSynced(tmp, content); err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// LoadOrGenerate loads the keys file and makes one first when there is none. It
// is for the all-in-one; where several processes share keys, a missing file is
// a mistake that [Load] reports.
func LoadOrGenerate(path string) (*Keyring, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := Generate(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return Load(path)
}

func freshFile() ([]byte, error) {
	key := freshKey("")
	return encodeFile(keysFile{Primary: key.Name, Keys: []keyEntry{key}})
}

// freshKey draws a key, and a name if none is given.
func freshKey(name string) keyEntry {
	secret, suffix := make([]byte, SecretSize), make([]byte, 4)
	// crypto/rand never fails: it ends the program instead (its documentation).
	_, _ = rand.Read(secret)
	_, _ = rand.Read(suffix)
	if name == "" {
		name = "key-" + hex.EncodeToString(suffix)
	}
	return keyEntry{Name: name, Secret: base64.StdEncoding.EncodeToString(secret)}
}

func encodeFile(file keysFile) ([]byte, error) {
	content, err := json.MarshalIndent(file, "", "  ")
	return append(content, '\n'), err
}

func writeSynced(f *os.File, content []byte) error {
	_, err := f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the new name itself survive a power cut.
func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the folder of the keys file, named by the operator
	if err != nil {
		return fmt.Errorf("keys folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("keys folder %s: %w", path, err)
	}
	return nil
}

func readFile(path string) (primary string, keys []Key, err error) {
	content, err := readPrivate(path)
	if err != nil {
		return "", nil, err
	}
	file, err := decodeFile(content)
	if err != nil {
		return "", nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	if keys, err = file.keys(); err != nil {
		return "", nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	return file.Primary, keys, nil
}

func (f keysFile) keys() (keys []Key, err error) {
	for _, entry := range f.Keys {
		secret, err := base64.StdEncoding.Strict().DecodeString(entry.Secret)
		if err != nil {
			return nil, fmt.Errorf("the secret of %q is not base64", entry.Name)
		}
		keys = append(keys, Key{Name: entry.Name, Secret: secret})
	}
	return keys, nil
}

// readPrivate looks at the open file and not at the path, so that what was
// checked is what is read.
func readPrivate(path string) (content []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // the path is configuration
	if err != nil {
		return nil, fmt.Errorf("keys file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keys file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("keys file %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !handedToGroup(mode, ownerOf(info), self()) {
		return nil, fmt.Errorf("keys file %s: others than this process may use it (mode %04o): run chmod 600 %s", path, mode, path)
	}
	if info.Size() > maxFileSize {
		return nil, fmt.Errorf("keys file %s: larger than %d bytes", path, maxFileSize)
	}
	content, err = io.ReadAll(io.LimitReader(f, maxFileSize))
	if err != nil {
		return nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	return content, nil
}

// decodeFile reads the JSON strictly. The decoder's own errors may quote what
// they stumbled over, which here can be a secret, so they are not passed on.
func decodeFile(content []byte) (keysFile, error) {
	var file keysFile
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return keysFile{}, fmt.Errorf("near byte %d: not the JSON of a keys file "+
			`({"primary": …, "keys": [{"name": …, "secret": …}]})`, dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return keysFile{}, errors.New("there is more after the JSON")
	}
	return file, nil
}
