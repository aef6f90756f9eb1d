package pagetoken_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
)

type cursor struct {
	Email string `json:"e"`
	ID    string `json:"i"`
}

var query = pagetoken.Query{
	Method:  "/twofold.auth.v1.AgentService/ListAgents",
	Parent:  "accounts/acme",
	Filter:  "mfaState=NOT_SET_UP",
	OrderBy: "email desc",
	Text:    "smith",
}

func newKeys(t require.TestingT, names ...string) *keyring.Keyring {
	var keys []keyring.Key
	for _, name := range names {
		keys = append(keys, keyring.Key{Name: name, Secret: []byte((name + "-0123456789012345678901234567890123")[:32])})
	}
	k, err := keyring.New(names[0], keys...)
	require.NoError(t, err)
	return k
}

func requireInvalid(t require.TestingT, err error) {
	require.Error(t, err)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	var e *errs.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, errs.ReasonInvalidPageToken, e.Reason())
}

func TestDecode_whatWasEncoded(t *testing.T) {
	c := pagetoken.New(newKeys(t, "k1"))
	rapid.Check(t, func(t *rapid.T) {
		q := pagetoken.Query{
			Method: rapid.String().Draw(t, "method"), Parent: rapid.String().Draw(t, "parent"),
			Filter: rapid.String().Draw(t, "filter"), OrderBy: rapid.String().Draw(t, "order"),
			Text: rapid.String().Draw(t, "text"),
		}
		want := cursor{Email: rapid.StringN(0, 60, -1).Draw(t, "email"), ID: rapid.StringMatching(`[0-9a-f-]{36}`).Draw(t, "id")}
		token, err := c.Encode(q, want)
		require.NoError(t, err)
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, token, "goes into a URL as it is")

		var got cursor
		require.NoError(t, c.Decode(token, q, &got))
		require.Equal(t, want, got)
	})
}

// A token used with another query would skip and repeat resources, or show the
// sort keys of another account.
func TestDecode_ofAnotherQuery_refused(t *testing.T) {
	c := pagetoken.New(newKeys(t, "k1"))
	token, err := c.Encode(query, cursor{ID: "1"})
	require.NoError(t, err)

	for name, change := range map[string]func(*pagetoken.Query){
		"method":  func(q *pagetoken.Query) { q.Method = "/twofold.auth.v1.AgentService/ListOthers" },
		"parent":  func(q *pagetoken.Query) { q.Parent = "accounts/other" },
		"filter":  func(q *pagetoken.Query) { q.Filter = "" },
		"order":   func(q *pagetoken.Query) { q.OrderBy = "email" },
		"text":    func(q *pagetoken.Query) { q.Text = "smit" },
		"shifted": func(q *pagetoken.Query) { q.OrderBy, q.Text = "", q.OrderBy+q.Text },
	} {
		t.Run(name, func(t *testing.T) {
			q := query
			change(&q)
			requireInvalid(t, c.Decode(token, q, &cursor{}))
		})
	}
}

func TestDecode_notOurs_refused(t *testing.T) {
	c := pagetoken.New(newKeys(t, "k1"))
	token, err := c.Encode(query, cursor{ID: "1"})
	require.NoError(t, err)
	foreign, err := pagetoken.New(newKeys(t, "k2")).Encode(query, cursor{ID: "1"})
	require.NoError(t, err)

	for name, bad := range map[string]string{
		"empty":             "",
		"words":             "not a token",
		"plain JSON":        base64.RawURLEncoding.EncodeToString([]byte(`{"e":"","i":"1"}`)),
		"of other keys":     foreign,
		"cut":               token[:len(token)-4],
		"longer":            token + "AAAA",
		"padded":            token + "=",
		"line break inside": token[:10] + "\n" + token[10:],
		"standard alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+/",
		"huge":              strings.Repeat("A", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			requireInvalid(t, c.Decode(bad, query, &cursor{}))
		})
	}
	for i := range len(token) {
		changed := []byte(token)
		changed[i]++
		requireInvalid(t, c.Decode(string(changed), query, &cursor{}))
	}
}

func TestDecode_cursorOfAnotherShape_refused(t *testing.T) {
	c := pagetoken.New(newKeys(t, "k1"))
	token, err := c.Encode(query, map[string]any{"i": "1", "older": true})
	require.NoError(t, err)
	requireInvalid(t, c.Decode(token, query, &cursor{}))
}

func TestDecode_afterRotation(t *testing.T) {
	keys := newKeys(t, "k1")
	c := pagetoken.New(keys)
	token, err := c.Encode(query, cursor{ID: "1"})
	require.NoError(t, err)

	key := func(name string) keyring.Key {
		return keyring.Key{Name: name, Secret: []byte((name + "-0123456789012345678901234567890123")[:32])}
	}
	require.NoError(t, keys.Replace("k2", key("k2"), key("k1")))
	var got cursor
	require.NoError(t, c.Decode(token, query, &got))
	require.Equal(t, "1", got.ID)

	require.NoError(t, keys.Replace("k2", key("k2")))
	requireInvalid(t, c.Decode(token, query, &got))
}

// The cursor holds a person's address; the token goes into URLs and their logs.
func TestEncode_showsNothing(t *testing.T) {
	token, err := pagetoken.New(newKeys(t, "k1")).Encode(query, cursor{Email: "ada@example.com"})
	require.NoError(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "ada@example.com")
}

func TestEncode_limits(t *testing.T) {
	c := pagetoken.New(newKeys(t, "k23456789-123456789-123456789-12"))
	_, err := c.Encode(query, strings.Repeat("a", pagetoken.MaxCursorSize-1))
	require.ErrorContains(t, err, "at most")
	_, err = c.Encode(query, make(chan int))
	require.Error(t, err)

	// The largest cursor makes a token that is still decoded.
	largest := strings.Repeat("a", pagetoken.MaxCursorSize-2)
	token, err := c.Encode(query, largest)
	require.NoError(t, err)
	require.LessOrEqual(t, len(token), pagetoken.MaxTokenSize)
	var got string
	require.NoError(t, c.Decode(token, query, &got))
	require.Equal(t, largest, got)
}

func FuzzDecode(f *testing.F) {
	c := pagetoken.New(newKeys(f, "k1"))
	token, err := c.Encode(query, cursor{ID: "1"})
	require.NoError(f, err)
	f.Add(token[1:])
	f.Add("")
	f.Add("AQJrMQ")
	f.Fuzz(func(t *testing.T, s string) {
		if s == token {
			return
		}
		requireInvalid(t, c.Decode(s, query, &cursor{}))
	})
}
