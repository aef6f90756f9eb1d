package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// A value is
//
//	format (1 byte) | length of the key's name (1 byte) | name | body
//
// The body of a sealed value is nonce, ciphertext and tag; that of a MAC is the
// 32-byte sum. The header is authenticated too, so nothing in it can be turned.
type format byte

const (
	formatSealed format = 1
	formatMAC    format = 2
)

// job separates the subkeys of a purpose by algorithm: one key never serves two.
type job string

const (
	jobSeal job = "aes-256-gcm"
	jobMAC  job = "hmac-sha256"
)

// Seal encrypts plaintext under the primary key so that only [Keyring.Open]
// with the same purpose and the same bound words reads it again. Bind every
// word that says where the value belongs: account, agent, factor, type.
func (k *Keyring) Seal(purpose Purpose, plaintext []byte, bound ...string) []byte {
	key := k.set.Load().primary
	header := appendHeader(nil, formatSealed, key.Name)
	//nolint:gosec // no nonce is passed: this AEAD draws one for each value
	return key.aead(purpose).Seal(header, nil, plaintext, associated(header, bound))
}

// Open decrypts what [Keyring.Seal] made. An error is one of [ErrMalformed],
// [ErrUnknownKey] and [ErrRefused]; all of them mean that there is no answer,
// never that the value is empty.
func (k *Keyring) Open(purpose Purpose, sealed []byte, bound ...string) ([]byte, error) {
	name, body, ok := splitHeader(formatSealed, sealed)
	if !ok {
		return nil, ErrMalformed
	}
	key, ok := k.set.Load().byName[name]
	if !ok {
		return nil, ErrUnknownKey
	}
	header := sealed[:len(sealed)-len(body)]
	plaintext, err := key.aead(purpose).Open(nil, nil, body, associated(header, bound))
	if err != nil {
		return nil, ErrRefused
	}
	return plaintext, nil
}

// KeyOf returns the name of the key that a sealed value or a MAC was made under,
// or [ErrMalformed]. The name is what the value says: whether that is true shows
// when the value is read.
func KeyOf(value []byte) (name string, err error) {
	if len(value) == 0 {
		return "", ErrMalformed
	}
	name, _, ok := splitHeader(format(value[0]), value)
	if !ok {
		return "", ErrMalformed
	}
	return name, nil
}

// CanRead returns nil if the key of a sealed value or a MAC is there, and
// otherwise [ErrUnknownKey] or [ErrMalformed]. A MAC that cannot be read is not a
// wrong one, so those who store MACs ask this before they call anything wrong.
func (k *Keyring) CanRead(value []byte) error {
	name, err := KeyOf(value)
	if err != nil {
		return err
	}
	if _, ok := k.set.Load().byName[name]; !ok {
		return ErrUnknownKey
	}
	return nil
}

// MACs returns the MAC of words under each key, the primary's first. It is for
// finding again what was stored by its MAC before another key became primary.
func (k *Keyring) MACs(purpose Purpose, words ...string) [][]byte {
	set := k.set.Load()
	var macs [][]byte
	for _, name := range set.names() {
		header := appendHeader(nil, formatMAC, name)
		macs = append(macs, append(header, set.byName[name].sum(purpose, header, words)...))
	}
	return macs
}

// MAC authenticates a list of words under the primary key. The words are not
// in the result. Lists that differ never have the same encoding: "ab","c" is
// not "a","bc".
func (k *Keyring) MAC(purpose Purpose, words ...string) []byte {
	key := k.set.Load().primary
	header := appendHeader(nil, formatMAC, key.Name)
	return append(header, key.sum(purpose, header, words)...)
}

// VerifyMAC reports whether mac is the MAC of words under any of the keys. The
// comparison takes the same time wherever they differ.
func (k *Keyring) VerifyMAC(purpose Purpose, mac []byte, words ...string) bool {
	name, body, ok := splitHeader(formatMAC, mac)
	if !ok {
		return false
	}
	key, ok := k.set.Load().byName[name]
	if !ok {
		return false
	}
	header := mac[:len(mac)-len(body)]
	return hmac.Equal(body, key.sum(purpose, header, words))
}

// Outdated reports whether a sealed value or a MAC was made under another key
// than the primary, so that it should be made anew while the old key is still
// there. What is not in this package's format is outdated too.
func (k *Keyring) Outdated(value []byte) bool {
	name, err := KeyOf(value)
	return err != nil || name != k.set.Load().primary.Name
}

func (k Key) aead(purpose Purpose) cipher.AEAD {
	block, err := aes.NewCipher(k.subkey(jobSeal, purpose))
	if err != nil {
		panic("keyring: aes: " + err.Error()) // only for keys that are not 16, 24 or 32 bytes
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("keyring: gcm: " + err.Error()) // only for ciphers that are not crypto/aes
	}
	return gcm
}

func (k Key) sum(purpose Purpose, header []byte, words []string) []byte {
	mac := hmac.New(sha256.New, k.subkey(jobMAC, purpose))
	mac.Write(associated(header, words))
	return mac.Sum(nil)
}

// associated encodes the header and the words so that no two lists are alike:
// their number first, each with its length in front.
func associated(header []byte, words []string) []byte {
	out := binary.AppendUvarint(nil, uint64(len(header)))
	out = append(out, header...)
	out = binary.AppendUvarint(out, uint64(len(words)))
	for _, word := range words {
		out = binary.AppendUvarint(out, uint64(len(word)))
		out = append(out, word...)
	}
	return out
}

func appendHeader(out []byte, f format, name string) []byte {
	out = append(out, byte(f), byte(len(name))) //nolint:gosec // names have at most 32 bytes (validName)
	return append(out, name...)
}

// splitHeader takes a value of format f apart.
func splitHeader(f format, value []byte) (name string, body []byte, ok bool) {
	known := f == formatSealed || f == formatMAC
	if !known || len(value) < 2 || format(value[0]) != f {
		return "", nil, false
	}
	end := 2 + int(value[1])
	if len(value) < end {
		return "", nil, false
	}
	return string(value[2:end]), value[end:], true
}
