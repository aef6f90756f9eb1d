package keyring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

const (
	purposeA keyring.Purpose = "a-secret"
	purposeB keyring.Purpose = "b-secret"
)

// testKey makes a key that depends on its name alone.
func testKey(name string) keyring.Key {
	secret := make([]byte, keyring.SecretSize)
	for i := range secret {
		secret[i] = byte(i) ^ name[i%len(name)]
	}
	return keyring.Key{Name: name, Secret: secret}
}

func newRing(t require.TestingT, primary string, others ...string) *keyring.Keyring {
	keys := []keyring.Key{testKey(primary)}
	for _, name := range others {
		keys = append(keys, testKey(name))
	}
	k, err := keyring.New(primary, keys...)
	require.NoError(t, err)
	return k
}

func TestOpen_whatWasSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		bound := rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "bound")
		k := newRing(t, "2026-11")

		sealed := k.Seal(purposeA, plaintext, bound...)
		opened, err := k.Open(purposeA, sealed, bound...)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plaintext, opened))
		if len(plaintext) >= 8 {
			require.False(t, bytes.Contains(sealed, plaintext))
		}
	})
}

// The reason this package exists: a row copied over another one, by a mistake
// or by somebody who can write to the database, must not count there.
func TestOpen_elsewhere_refused(t *testing.T) {
	k := newRing(t, "2026-11")
	sealed := k.Seal(purposeA, []byte("secret"), "acme", "agent-1", "factor-1", "TOTP")

	for name, bound := range map[string][]string{
		"another account":     {"other", "agent-1", "factor-1", "TOTP"},
		"another agent":       {"acme", "agent-2", "factor-1", "TOTP"},
		"another factor":      {"acme", "agent-1", "factor-2", "TOTP"},
		"another type":        {"acme", "agent-1", "factor-1", "PASSKEY"},
		"a word missing":      {"acme", "agent-1", "factor-1"},
		"a word more":         {"acme", "agent-1", "factor-1", "TOTP", ""},
		"words run together":  {"acmeagent-1", "", "factor-1", "TOTP"},
		"words in wrong turn": {"agent-1", "acme", "factor-1", "TOTP"},
		"nothing":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Open(purposeA, sealed, bound...)
			require.ErrorIs(t, err, keyring.ErrRefused)
		})
	}
	t.Run("another purpose", func(t *testing.T) {
		_, err := k.Open(purposeB, sealed, "acme", "agent-1", "factor-1", "TOTP")
		require.ErrorIs(t, err, keyring.ErrRefused)
	})
}

func TestOpen_damaged_refused(t *testing.T) {
	k := newRing(t, "2026-11", "2025-11")
	sealed := k.Seal(purposeA, []byte("secret"), "acme")

	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			_, err := k.Open(purposeA, changed, "acme")
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
	}
	for n := range sealed {
		_, err := k.Open(purposeA, sealed[:n], "acme")
		require.Error(t, err, "cut to %d bytes", n)
	}
	_, err := k.Open(purposeA, append(bytes.Clone(sealed), 0), "acme")
	require.ErrorIs(t, err, keyring.ErrRefused)
	_, err = k.Open(purposeA, nil, "acme")
	require.ErrorIs(t, err, keyring.ErrMalformed)
}

// A key that was renamed in the file must not read as the key it was.
func TestOpen_keyOfAnotherName_refused(t *testing.T) {
	sealed := newRing(t, "2026-11").Seal(purposeA, []byte("secret"), "acme")
	renamed := testKey("2026-11")
	renamed.Name = "2026-12"
	k, err := keyring.New("2026-12", renamed)
	require.NoError(t, err)

	moved := bytes.Replace(sealed, []byte("2026-11"), []byte("2026-12"), 1)
	_, err = k.Open(purposeA, moved, "acme")
	require.ErrorIs(t, err, keyring.ErrRefused)
}

func TestSeal_twice_differs(t *testing.T) {
	k := newRing(t, "2026-11")
	first := k.Seal(purposeA, []byte("secret"), "x")
	second := k.Seal(purposeA, []byte("secret"), "x")
	require.NotEqual(t, first, second)
}

func TestVerifyMAC(t *testing.T) {
	k := newRing(t, "2026-11")
	mac := k.MAC(purposeA, "acme", "agent-1", "code")

	require.True(t, k.VerifyMAC(purposeA, mac, "acme", "agent-1", "code"))
	require.False(t, k.VerifyMAC(purposeB, mac, "acme", "agent-1", "code"), "another purpose")
	require.False(t, k.VerifyMAC(purposeA, mac, "acme", "agent-2", "code"), "another word")
	require.False(t, k.VerifyMAC(purposeA, mac, "acme", "agent-1code", ""), "words run together")
	require.False(t, k.VerifyMAC(purposeA, mac, "acme", "agent-1"), "a word missing")
	require.False(t, k.VerifyMAC(purposeA, nil, "acme", "agent-1", "code"), "no MAC")
	for i := range mac {
		changed := bytes.Clone(mac)
		changed[i] ^= 1
		require.False(t, k.VerifyMAC(purposeA, changed, "acme", "agent-1", "code"), "byte %d", i)
		require.False(t, k.VerifyMAC(purposeA, mac[:i], "acme", "agent-1", "code"), "cut to %d", i)
	}
}

func TestVerifyMAC_listsOfWords_neverAlike(t *testing.T) {
	k := newRing(t, "2026-11")
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("a\x00\x01")), 0, 3, -1)
		one := rapid.SliceOfN(word, 0, 4).Draw(t, "one")
		two := rapid.SliceOfN(word, 0, 4).Draw(t, "two")
		same := fmt.Sprintf("%q", one) == fmt.Sprintf("%q", two)
		require.Equal(t, same, k.VerifyMAC(purposeA, k.MAC(purposeA, one...), two...))
	})
}

// A sealed value is no MAC and the other way about, whatever the words.
func TestFormats_notInterchangeable(t *testing.T) {
	k := newRing(t, "2026-11")
	require.False(t, k.VerifyMAC(purposeA, k.Seal(purposeA, nil, "acme"), "acme"))
	_, err := k.Open(purposeA, k.MAC(purposeA, "acme"), "acme")
	require.ErrorIs(t, err, keyring.ErrMalformed)
}

func TestRotation(t *testing.T) {
	k := newRing(t, "old")
	sealed, mac := k.Seal(purposeA, []byte("secret"), "acme"), k.MAC(purposeA, "word")
	require.False(t, k.Outdated(sealed))
	require.False(t, k.Outdated(mac))

	// The new key is there and primary; the old one still reads.
	require.NoError(t, k.Replace("new", testKey("new"), testKey("old")))
	require.Equal(t, "new", k.Primary())
	require.True(t, k.Outdated(sealed))
	require.True(t, k.Outdated(mac))
	opened, err := k.Open(purposeA, sealed, "acme")
	require.NoError(t, err)
	require.Equal(t, "secret", string(opened))
	require.True(t, k.VerifyMAC(purposeA, mac, "word"))

	again := k.Seal(purposeA, opened, "acme")
	require.False(t, k.Outdated(again))

	// The old key is gone: what was made anew reads, the rest says why it does not.
	require.NoError(t, k.Replace("new", testKey("new")))
	_, err = k.Open(purposeA, again, "acme")
	require.NoError(t, err)
	_, err = k.Open(purposeA, sealed, "acme")
	require.ErrorIs(t, err, keyring.ErrUnknownKey)
	require.False(t, k.VerifyMAC(purposeA, mac, "word"))
	require.True(t, k.Outdated(sealed))
	require.True(t, k.Outdated(nil))
	require.True(t, k.Outdated([]byte{9, 0}))
}

// Rotating under load fails no reader: each sees the old set or the new one.
func TestReplace_whileInUse(t *testing.T) {
	k := newRing(t, "old", "new")
	sealed := k.Seal(purposeA, []byte("secret"), "acme")
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			for range 500 {
				fresh := k.Seal(purposeA, []byte("secret"), "acme")
				for _, value := range [][]byte{sealed, fresh} {
					if _, err := k.Open(purposeA, value, "acme"); err != nil {
						errs <- err
						return
					}
				}
			}
		})
	}
	for i := range 500 {
		require.NoError(t, k.Replace([]string{"old", "new"}[i%2], testKey("old"), testKey("new")))
	}
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
}

func TestNew_badKeys_refused(t *testing.T) {
	good := testKey("good")
	for name, c := range map[string]struct {
		primary string
		keys    []keyring.Key
		want    string
	}{
		"no keys":         {"good", nil, "there are no keys"},
		"no such primary": {"other", []keyring.Key{good}, `"other" is not among the keys`},
		"empty name":      {"", []keyring.Key{{Secret: good.Secret}}, "letters, digits"},
		"long name":       {"good", []keyring.Key{{Name: strings.Repeat("a", 33), Secret: good.Secret}}, "letters, digits"},
		"slash in name":   {"a/b", []keyring.Key{{Name: "a/b", Secret: good.Secret}}, "letters, digits"},
		"short secret":    {"good", []keyring.Key{{Name: "good", Secret: good.Secret[:31]}}, "has 31 bytes, want 32"},
		"long secret":     {"good", []keyring.Key{{Name: "good", Secret: append(bytes.Clone(good.Secret), 1)}}, "has 33 bytes"},
		"zero secret":     {"good", []keyring.Key{{Name: "good", Secret: make([]byte, 32)}}, "one byte repeated"},
		"name twice":      {"good", []keyring.Key{good, {Name: "good", Secret: testKey("x").Secret}}, "used twice"},
		"secret twice":    {"good", []keyring.Key{good, {Name: "also", Secret: good.Secret}}, "the same secret"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keyring.New(c.primary, c.keys...)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestReplace_badKeys_keepsTheOld(t *testing.T) {
	k := newRing(t, "old")
	sealed := k.Seal(purposeA, []byte("secret"))
	require.Error(t, k.Replace("missing", testKey("new")))
	_, err := k.Open(purposeA, sealed)
	require.NoError(t, err)
}

// The caller's slice is the caller's: changing it later changes no key.
func TestNew_copiesSecrets(t *testing.T) {
	key := testKey("2026-11")
	k, err := keyring.New("2026-11", key)
	require.NoError(t, err)
	sealed := k.Seal(purposeA, []byte("secret"))
	clear(key.Secret)
	_, err = k.Open(purposeA, sealed)
	require.NoError(t, err)
	_, err = newRing(t, "2026-11").Open(purposeA, sealed)
	require.NoError(t, err)
}

func TestKey_printed_staysSecret(t *testing.T) {
	key := keyring.Key{Name: "2026-11", Secret: []byte("CANARY-CANARY-CANARY-CANARY-CANA")}
	for _, text := range []string{
		fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%s", []keyring.Key{key}),
		key.LogValue().String(),
	} {
		require.NotContains(t, text, "CANARY")
		require.NotContains(t, text, "67 65", text)
	}
	_, err := json.Marshal(key)
	require.Error(t, err)
}

// Values are read for years, so the derivation and the format may not drift.
// The MAC below was computed with an independent implementation of RFC 5869 and
// RFC 2104 (Python's hmac).
func TestMAC_fixedVector(t *testing.T) {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	k, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: secret})
	require.NoError(t, err)
	require.Equal(t, "02026b31afaecce48d71baf8d7da8252fbe7ff866f776146845164d1fa0c49d06d2f4dc7", fmt.Sprintf("%x", k.MAC("page-token", "acme", "agent")))
}
