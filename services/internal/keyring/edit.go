package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Add writes one more key into a keys file, under a name or, when that is empty,
// one that it makes up. The primary key stays what it is, so that every process
// can know the key before anything is made under it.
func Add(path, name string) (added string, err error) {
	key := freshKey(name)
	err = edit(path, func(file *keysFile) error {
		file.Keys = append(file.Keys, key)
		return nil
	})
	return key.Name, err
}

// Promote makes a key of a keys file the primary one.
func Promote(path, name string) error {
	return edit(path, func(file *keysFile) error {
		if _, err := file.index(name); err != nil {
			return err
		}
		file.Primary = name
		return nil
	})
}

// Remove takes a key out of a keys file, unless it is the primary one. What is
// still under the key can be read no more.
func Remove(path, name string) error {
	return edit(path, func(file *keysFile) error {
		i, err := file.index(name)
		if err != nil {
			return err
		}
		if name == file.Primary {
			return fmt.Errorf("%q is the primary key: promote another one first", name)
		}
		file.Keys = slices.Delete(file.Keys, i, i+1)
		return nil
	})
}

func (f keysFile) index(name string) (int, error) {
	i := slices.IndexFunc(f.Keys, func(k keyEntry) bool { return k.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("there is no key %q", name)
	}
	return i, nil
}

// edit replaces a keys file by a changed one at once: whoever reads it meanwhile
// reads the one or the other. The new file keeps owner and mode of the old one,
// which were private, so that the processes can read it still.
func edit(path string, change func(*keysFile) error) (err error) {
	// A symbolic link stays one.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	// The name is fixed, so that of two who edit at once one waits for a human.
	next := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".new")
	out, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // beside the file that the operator names
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keys file %s: somebody else is changing it; if not, remove %s, which was left behind", path, next)
	}
	if err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next)
		}
	}()
	content, err := changed(target, change)
	if err == nil {
		err = likeOriginal(out, target)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keys file %s: %w", path, err), out.Close())
	}
	if err := writeSynced(out, content); err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	if err := os.Rename(next, target); err != nil {
		return fmt.Errorf("keys file %s: %w", path, err)
	}
	return syncDir(filepath.Dir(target))
}

// changed returns what a keys file is to be, having checked both: a file that no
// process would load is not written.
func changed(path string, change func(*keysFile) error) ([]byte, error) {
	content, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	file, err := decodeFile(content)
	if err != nil {
		return nil, err
	}
	if err := change(&file); err != nil {
		return nil, err
	}
	keys, err := file.keys()
	if err != nil {
		return nil, err
	}
	if _, err := newKeySet(file.Primary, keys); err != nil {
		return nil, err
	}
	return encodeFile(file)
}

// likeOriginal gives a new file the owner and the mode of an old one.
func likeOriginal(file *os.File, original string) error {
	info, err := os.Stat(original)
	if err != nil {
		return err
	}
	own, err := file.Stat()
	if err != nil {
		return err
	}
	if is, want := ownerOf(own), ownerOf(info); is != want {
		if err := file.Chown(want.user, want.group); err != nil {
			return err
		}
	}
	return file.Chmod(info.Mode().Perm())
}
