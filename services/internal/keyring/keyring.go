package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync/atomic"
)

// SecretSize is the length of every key's secret.
const SecretSize = 32

// Errors of reading values back. They say what to do: ErrUnknownKey is a matter
// for whoever keeps the keys file, the others mean the value was not made here,
// for this purpose, in this place.
var (
	ErrMalformed  = errors.New("keyring: the value is not in this package's format")
	ErrUnknownKey = errors.New("keyring: the value was made under a key that is not in the keys file")
	ErrRefused    = errors.New("keyring: the value does not authenticate for this purpose and place")
)

// Purpose names what subkeys are for: "totp-secret", "page-token". Purposes are
// constants of the packages that use them and never change, because what was
// made under the old name could not be read under the new one.
type Purpose string

// Key is one named secret.
type Key struct {
	Name   string
	Secret []byte
}

// String returns the name, so that a key printed by mistake stays secret.
func (k Key) String() string { return "key " + k.Name }

// GoString does for %#v what String does for %v.
func (k Key) GoString() string { return k.String() }

// LogValue does the same for log/slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON refuses: the only JSON with secrets in it is the keys file.
func (k Key) MarshalJSON() ([]byte, error) {
	return nil, errors.New("keyring: a key is not for marshaling")
}

// Keyring seals and authenticates under its primary key and reads values of all
// its keys. It is safe for concurrent use, also while keys are replaced.
type Keyring struct {
	set atomic.Pointer[keySet]
}

// keySet never changes once made: replacing keys swaps the whole set, so no
// caller sees a primary of one file beside the keys of another.
type keySet struct {
	primary Key
	byName  map[string]Key
}

// New returns a keyring of keys, of which the one named primary makes new
// values. Processes use [Load]; New is for tests and for keys from elsewhere.
func New(primary string, keys ...Key) (*Keyring, error) {
	set, err := newKeySet(primary, keys)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := &Keyring{}
	k.set.Store(set)
	return k, nil
}

// Replace swaps the keys of a running keyring at once. When it returns an error
// the old keys are still in place.
func (k *Keyring) Replace(primary string, keys ...Key) error {
	if _, err := k.replace(primary, keys); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

func (k *Keyring) replace(primary string, keys []Key) (Change, error) {
	next, err := newKeySet(primary, keys)
	if err != nil {
		return Change{}, err
	}
	before := k.set.Load()
	for name, key := range next.byName {
		// What was made under the earlier secret could be read no more, and would
		// be refused as if somebody had tampered with it.
		if earlier, ok := before.byName[name]; ok && !bytes.Equal(earlier.Secret, key.Secret) {
			return Change{}, fmt.Errorf("the key %q had another secret until now: a new secret needs a new name", name)
		}
	}
	k.set.Store(next)
	return Change{
		Added: missingIn(before, next), Removed: missingIn(next, before), Promoted: before.primary.Name != next.primary.Name,
	}, nil
}

// Change is how the keys differ from those before, by their names.
type Change struct {
	Added, Removed []string
	// Promoted says that another key is primary.
	Promoted bool
}

// None reports whether nothing changed.
func (c Change) None() bool { return len(c.Added) == 0 && len(c.Removed) == 0 && !c.Promoted }

// missingIn returns the names of to that from does not have.
func missingIn(from, to *keySet) (names []string) {
	for _, name := range to.names() {
		if _, ok := from.byName[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// Primary returns the name of the key that makes new values.
func (k *Keyring) Primary() string { return k.set.Load().primary.Name }

// Names returns the names of all keys: the primary's first, then the others in
// their order.
func (k *Keyring) Names() []string { return k.set.Load().names() }

func (s *keySet) names() []string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.byName)), func(name string) bool { return name == s.primary.Name })
	return slices.Insert(names, 0, s.primary.Name)
}

// Names travel in the header of every value and into logs and file names of
// operators, hence the plain alphabet and the length.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

func newKeySet(primary string, keys []Key) (*keySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("there are no keys")
	}
	set := &keySet{byName: make(map[string]Key, len(keys))}
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		for _, earlier := range keys[:i] {
			if earlier.Name == key.Name {
				return nil, fmt.Errorf("key %d: the name %q is used twice", i+1, key.Name)
			}
			// A rotation to the same secret is no rotation, though it looks like one.
			if bytes.Equal(earlier.Secret, key.Secret) {
				return nil, fmt.Errorf("keys %q and %q have the same secret", earlier.Name, key.Name)
			}
		}
		// The caller keeps its slice; ours must not change under readers.
		set.byName[key.Name] = Key{Name: key.Name, Secret: bytes.Clone(key.Secret)}
	}
	p, ok := set.byName[primary]
	if !ok {
		return nil, fmt.Errorf("the primary key %q is not among the keys", primary)
	}
	set.primary = p
	return set, nil
}

func checkKey(key Key) error {
	if !validName.MatchString(key.Name) {
		return fmt.Errorf("the name %q is not 1 to 32 letters, digits, '.', '_' or '-'", key.Name)
	}
	if len(key.Secret) != SecretSize {
		return fmt.Errorf("the secret of %q has %d bytes, want %d", key.Name, len(key.Secret), SecretSize)
	}
	// A secret of one repeated byte is a placeholder somebody forgot to replace.
	if bytes.Count(key.Secret, key.Secret[:1]) == SecretSize {
		return fmt.Errorf("the secret of %q is one byte repeated", key.Name)
	}
	return nil
}

// subkey derives the key that does one job for one purpose.
func (k Key) subkey(j job, purpose Purpose) []byte {
	sub, err := hkdf.Key(sha256.New, k.Secret, nil, "twofold/keyring/1/"+string(j)+"/"+string(purpose), 32)
	if err != nil {
		// HKDF fails only for outputs above 255 hashes, and in FIPS-only mode for
		// secrets under 112 bits; lengths here are constants.
		panic("keyring: hkdf: " + err.Error())
	}
	return sub
}
