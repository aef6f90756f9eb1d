package password

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestVerify_ownHash(t *testing.T) {
	h := New(Config{})
	stored, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, stored)
	other, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, stored, other, "salted")

	ok, upgrade, err := h.Verify(t.Context(), stored, "correct horse")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, upgrade)
	for _, wrong := range []string{"correct horsf", "", "correct horse ", strings.Repeat("a", 100_000), "\xff"} {
		ok, upgrade, err = h.Verify(t.Context(), stored, wrong)
		require.NoError(t, err)
		require.False(t, ok)
		require.False(t, upgrade)
	}
}

// All of a password counts, also what lies beyond bcrypt's 72 bytes.
func TestVerify_longPasswords_whole(t *testing.T) {
	h := New(Config{})
	long := strings.Repeat("a", 999)
	stored, err := h.Hash(t.Context(), long+"x")
	require.NoError(t, err)
	ok, _, err := h.Verify(t.Context(), stored, long+"x")
	require.NoError(t, err)
	require.True(t, ok)
	ok, _, err = h.Verify(t.Context(), stored, long+"y")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestVerify_spellingsOfOneText_alike(t *testing.T) {
	h := New(Config{})
	stored, err := h.Hash(t.Context(), "p\u00e4ssw\u00f6rter")
	require.NoError(t, err)
	ok, _, err := h.Verify(t.Context(), stored, "pa\u0308sswo\u0308rter")
	require.NoError(t, err)
	require.True(t, ok)
}

func TestCheck(t *testing.T) {
	for _, good := range []string{"12345678", strings.Repeat("漢", 8), strings.Repeat("𝔘", 1000), strings.Repeat("a\u0308", 1000)} {
		require.NoError(t, Check(good))
	}
	for _, bad := range []string{"", "1234567", strings.Repeat("漢", 7), strings.Repeat("a\u0308", 7),
		strings.Repeat("a", 1001), strings.Repeat("a", 1<<20), "12345678\xff"} {
		require.Equal(t, codes.InvalidArgument, status.Code(Check(bad)))
	}
}

func TestVerify_importedBcrypt(t *testing.T) {
	h := New(Config{})
	made, err := bcrypt.GenerateFromPassword([]byte("short"), bcrypt.MinCost)
	require.NoError(t, err)
	for _, kind := range []string{"$2a$", "$2b$", "$2y$"} {
		stored, err := ParseHash(kind + string(made[4:]))
		require.NoError(t, err)
		ok, upgrade, err := h.Verify(t.Context(), stored, "short")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, upgrade)
		for _, wrong := range []string{"shorr", "", "short\x00short"} {
			ok, _, err = h.Verify(t.Context(), stored, wrong)
			require.NoError(t, err)
			require.False(t, ok, "%q", wrong)
		}
	}
}

// bcrypt cannot see a 73rd byte; nobody gets in on the first 72.
func TestVerify_bcryptBeyondItsLimit_refused(t *testing.T) {
	h := New(Config{})
	made, err := bcrypt.GenerateFromPassword([]byte(strings.Repeat("a", 72)), bcrypt.MinCost)
	require.NoError(t, err)
	for length, want := range map[int]bool{71: false, 72: true, 73: false, 80: false} {
		ok, _, err := h.Verify(t.Context(), string(made), strings.Repeat("a", length))
		require.NoError(t, err)
		require.Equal(t, want, ok, "%d bytes", length)
	}
}

func TestVerify_importedArgon2id(t *testing.T) {
	h := New(Config{Concurrency: 1})
	foreign := argonHash{memoryKiB: 64 * 1024, passes: 1, lanes: 4, salt: []byte("saltsalt")}
	for _, password := range []string{"imported", "pa\u0308sswort"} {
		stored, err := ParseHash(foreign.compute(password, 32).String())
		require.NoError(t, err)
		ok, upgrade, err := h.Verify(t.Context(), stored, password)
		require.NoError(t, err)
		require.True(t, ok, "hashed as typed: %q", password)
		require.True(t, upgrade)
	}
}

func TestParseHash_refused(t *testing.T) {
	const salt, sum = "c2FsdHNhbHRzYWx0c2FsdA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	_, err := ParseHash("$argon2id$v=19$m=102400,t=2,p=8$" + salt + "$" + sum)
	require.NoError(t, err)
	bc := strings.Repeat("a", 53)
	_, err = ParseHash("$2b$14$" + bc)
	require.NoError(t, err)
	for _, bad := range []string{
		"", "plain", "{SSHA}abc", "$1$abc$def", "$2x$10$" + bc, "$2$10$" + bc, "$2b$15$" + bc, "$2b$31$" + bc, "$2b$03$" + bc,
		"$2b$10$" + bc[1:], "$2b$10$" + bc + "a", "$2b$10$" + bc + "\n",
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + sum, "$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=131073,t=1,p=1$" + salt + "$" + sum, "$argon2id$v=19$m=4294967296,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=11,p=1$" + salt + "$" + sum, "$argon2id$v=19$m=131072,t=5,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + sum, "$argon2id$v=19$m=19456,t=2,p=17$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=2,p=2$" + salt + "$" + sum, "$argon2id$v=19$m=19456,t=2,p=1$c2Fs$" + sum,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$AAAA", "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + sum + "=",
		"$argon2id$v=19$m=19456,t=2,p=1,keyid=a$" + salt + "$" + sum,
	} {
		_, err := ParseHash(bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%q", bad)
	}
}

func TestVerify_damagedHash_noAnswer(t *testing.T) {
	ok, _, err := New(Config{}).Verify(t.Context(), "damaged", "correct horse")
	require.ErrorIs(t, err, ErrDamagedHash)
	require.False(t, ok)
}

// The budget is memory: a hash that needs several shares waits for all of them,
// and whoever finds the queue full is told so at once.
// Nobody's password costs what a wrong one of somebody does.
func TestVerifyUnknown_sameWork(t *testing.T) {
	h := New(Config{})
	stored, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, h.dummy.current(), "memory, passes, lanes and sizes are those of new hashes")
	require.Equal(t, int64(1), h.Computed())
	for _, wrong := range []string{"incorrect horse", "", "pa\u0308ssword", "\xff", strings.Repeat("a", 100_000)} {
		before := h.Computed()
		ok, _, err := h.Verify(t.Context(), stored, wrong)
		require.NoError(t, err)
		require.False(t, ok)
		known := h.Computed() - before
		require.NoError(t, h.VerifyUnknown(t.Context(), wrong))
		require.Equal(t, known, h.Computed()-before-known, "%.20q", wrong)
		require.NotZero(t, known)
	}
}

func TestBudget(t *testing.T) {
	h := New(Config{Concurrency: 2, Queue: 1})
	stored := argonHash{memoryKiB: memoryKiB, passes: passes, lanes: lanes, salt: random(saltSize)}
	require.NoError(t, h.enter(t.Context(), stored))
	require.NoError(t, h.enter(t.Context(), stored))

	waiting, giveUp := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.enter(waiting, stored) }()
	require.Eventually(t, func() bool { return h.inside.Load() == 3 }, 5e9, 1e6)
	require.ErrorIs(t, h.VerifyUnknown(t.Context(), "password"), ErrOverloaded)
	_, err := h.Hash(t.Context(), "password")
	require.Equal(t, codes.ResourceExhausted, status.Code(err))

	giveUp()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, int64(2), h.inside.Load())
	h.leave(stored)
	h.leave(stored)
	require.NoError(t, h.VerifyUnknown(t.Context(), "password"))

	stored.memoryKiB = maxMemoryKiB
	require.Equal(t, int64(2), h.share(stored), "more than there is would wait for ever")
}
