package recovery_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/auth/recovery"
	"github.com/twofold-auth/twofold/services/internal/keyring"
)

var owner = recovery.Owner{Account: "acme", Agent: "agent-1", Generation: 3}

func newKeys(t *testing.T) *keyring.Keyring {
	t.Helper()
	k, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: []byte("01234567890123456789012345678901")})
	require.NoError(t, err)
	return k
}

func newSet(t *testing.T) []recovery.Code {
	t.Helper()
	set, err := recovery.NewSet(rand.Reader)
	require.NoError(t, err)
	return set
}

func TestNewSet(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		set := newSet(t)
		require.Len(t, set, 10)
		for _, code := range set {
			require.Regexp(t, `^([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{2}$`, code.Text())
			require.False(t, seen[code.Text()])
			seen[code.Text()] = true
		}
	}
	_, err := recovery.NewSet(bytes.NewReader(make([]byte, 159)))
	require.Error(t, err)
}

func TestParse_asPeopleTypeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, err := recovery.NewSet(bytes.NewReader(rapid.SliceOfN(rapid.Byte(), 160, 160).Draw(t, "random")))
		require.NoError(t, err)
		text := set[0].Text()
		for _, typed := range []string{
			text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), strings.ReplaceAll(text, "-", " "), " " + text + " ",
		} {
			code, err := recovery.Parse(typed)
			require.NoError(t, err, "%q", typed)
			require.Equal(t, set[0], code)
		}
	})
}

func TestParse_strict(t *testing.T) {
	const good = "00000000000000000000000000"
	for _, bad := range []string{
		"", good[1:], good + "0", good[1:] + "I", good[1:] + "L", good[1:] + "o", good[1:] + "U", good[1:] + "1", good + "\n",
		"\t" + good, good[1:] + "\u00a0", good[1:] + "\uff10", good[2:] + "\u0131", good[:25] + "_", good + strings.Repeat(" ", 1000), "\xff" + good,
	} {
		_, err := recovery.Parse(bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%q", bad)
	}
}

func match(t *testing.T, keys *keyring.Keyring, owner recovery.Owner, code recovery.Code, stored [][]byte) int {
	t.Helper()
	i, err := recovery.Match(keys, owner, code, stored)
	require.NoError(t, err)
	return i
}

// A code whose key is gone is not a wrong one: nobody can tell.
func TestMatch_keyGone_noAnswer(t *testing.T) {
	keys, set := newKeys(t), newSet(t)
	stored := [][]byte{recovery.Hash(keys, owner, set[0])}
	next := keyring.Key{Name: "k2", Secret: []byte("abcdefghijabcdefghijabcdefghijab")}
	require.NoError(t, keys.Replace("k2", next))
	for _, code := range set[:2] {
		_, err := recovery.Match(keys, owner, code, stored)
		require.ErrorIs(t, err, keyring.ErrUnknownKey)
	}
	// Those under keys that are there can be used all the same.
	stored = append(stored, recovery.Hash(keys, owner, set[1]))
	require.Equal(t, 1, match(t, keys, owner, set[1], stored))
	_, err := recovery.Match(keys, owner, set[0], [][]byte{[]byte("damaged")})
	require.ErrorIs(t, err, keyring.ErrMalformed)
}

func TestMatch(t *testing.T) {
	keys, set := newKeys(t), newSet(t)
	var stored [][]byte
	for _, code := range set {
		stored = append(stored, recovery.Hash(keys, owner, code))
	}
	for i, code := range set {
		require.Equal(t, i, match(t, keys, owner, code, stored))
	}
	for _, other := range []recovery.Owner{
		{Account: "other", Agent: "agent-1", Generation: 3},
		{Account: "acme", Agent: "agent-2", Generation: 3},
		{Account: "acme", Agent: "agent-1", Generation: 4},
	} {
		require.Equal(t, -1, match(t, keys, other, set[0], stored), "%+v", other)
	}
	require.Equal(t, -1, match(t, keys, owner, newSet(t)[0], stored))
	require.Equal(t, -1, match(t, keys, owner, set[0], nil))
	require.Equal(t, -1, match(t, keys, owner, recovery.Code{}, [][]byte{recovery.Hash(keys, owner, recovery.Code{})}))
}

// Whoever reads the database holds hashes, and hashes are no codes in any form.
func TestHash_isNoCode(t *testing.T) {
	keys, code := newKeys(t), newSet(t)[0]
	hash := recovery.Hash(keys, owner, code)
	require.NotContains(t, string(hash), strings.ReplaceAll(code.Text(), "-", ""))
	crockford := base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)
	for _, text := range []string{
		string(hash), hex.EncodeToString(hash), base64.StdEncoding.EncodeToString(hash), crockford.EncodeToString(hash),
		crockford.EncodeToString(hash[:16]), crockford.EncodeToString(hash[len(hash)-16:]),
	} {
		if parsed, err := recovery.Parse(text); err == nil {
			require.Equal(t, -1, match(t, keys, owner, parsed, [][]byte{hash}))
		}
	}
}

func TestCode_printed_staysSecret(t *testing.T) {
	code := newSet(t)[0]
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, code), code.Text()[:4])
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0000-0000-0000-0000-0000-0000-00")
	f.Fuzz(func(t *testing.T, s string) {
		code, err := recovery.Parse(s)
		if err != nil {
			return
		}
		again, err := recovery.Parse(code.Text())
		require.NoError(t, err)
		require.Equal(t, code, again)
	})
}
