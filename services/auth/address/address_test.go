package address_test

import (
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-auth/twofold/services/auth/address"
)

func TestParse(t *testing.T) {
	for typed, want := range map[string]struct{ text, key string }{
		"ada@example.com":             {"ada@example.com", "ada@example.com"},
		"Ada.Lovelace@Example.COM":    {"Ada.Lovelace@example.com", "ada.lovelace@example.com"},
		"a+b@example.com":             {"a+b@example.com", "a+b@example.com"},
		"o'neil!#$%&*/=?^_`{|}~-@x.y": {"o'neil!#$%&*/=?^_`{|}~-@x.y", "o'neil!#$%&*/=?^_`{|}~-@x.y"},
		"ada@bücher.example":          {"ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"},
		"ada@xn--bcher-kva.example":   {"ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"},
		"ada@BÜCHER.example":          {"ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"},
		"ada@faß.example":             {"ada@xn--fa-hia.example", "ada@xn--fa-hia.example"},
		strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + ".example": {
			strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + ".example",
			strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + ".example"},
	} {
		a, err := address.Parse(typed)
		require.NoError(t, err, typed)
		require.Equal(t, want.text, a.String())
		require.Equal(t, want.key, a.Key())
	}
	require.Empty(t, address.Address{}.String())
}

// Everything that mail software of different makes reads differently.
func TestParse_refused(t *testing.T) {
	label := strings.Repeat("b", 63)
	for _, bad := range []string{
		"", "ada", "@", "@example.com", "ada@", "ada@localhost", "a@b@example.com", "ada@example.com,bob@example.com",
		`"ada"@example.com`, `"a b"@example.com`, "Ada <ada@example.com>", "<ada@example.com>", "ada(x)@example.com",
		"ada@example.com(x)", "ada@[127.0.0.1]", "ada@127.0.0.1", "ada@[IPv6:::1]", "ada lovelace@example.com",
		" ada@example.com", "ada@example.com ", "ada@example.com\n", "ada\r\nBcc: x@example.com", "ada@example.com\r\nBcc: x@y.z",
		"ada@exam\r\nple.com", "ada\x00@example.com", "ada@exa\x00mple.com", "ada\x7f@example.com", ".ada@example.com",
		"ada.@example.com", "a..b@example.com", "ada@.example.com", "ada@example..com", "ada@example.com.", "ada@-example.com",
		"ada@example-.com", "ada@exa_mple.com", "ada@exa mple.com", "ada@exa;mple.com", "ädä@example.com", "ada\u202e@example.com",
		"ada@exam\u202eple.com", "ada\u3000@example.com", "ada\\@example.com", "ada\xff@example.com", "ada@\xff.com", "ada@xn--\u00fc.example",
		"ada@xn--99999999.example", "ada@xn--a.example", "ada＠example.com", "ada@ex\u2100mple.com", "mailto:ada@example.com",
		strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("b", 64) + ".example",
		"a@" + label + "." + label + "." + label + "." + label + ".example",
		strings.Repeat("a", 64) + "@" + label + "." + label + "." + strings.Repeat("b", 62), // 255 octets
		strings.Repeat("a", 1<<20),
	} {
		_, err := address.Parse(bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%q", bad)
	}
}

func TestParse_longest(t *testing.T) {
	label := strings.Repeat("b", 63)
	a, err := address.Parse(strings.Repeat("a", 64) + "@" + label + "." + label + "." + strings.Repeat("b", 61))
	require.NoError(t, err)
	require.Len(t, a.String(), 254)
}

// Whatever passes is one plain address to another parser too, and parsing what
// came out changes nothing more.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"ada@example.com", "a@bücher.example", "a\r\n@x.y", `"a"@x.y`, "a@x.y.", "a@１.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := address.Parse(s)
		if err != nil {
			return
		}
		text := a.String()
		require.LessOrEqual(t, len(text), 254)
		require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }), "%q", text)
		parsed, err := mail.ParseAddress(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, text, parsed.Address)
		again, err := address.Parse(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, a, again)
		lower, err := address.Parse(a.Key())
		require.NoError(t, err)
		require.Equal(t, a.Key(), lower.Key())
	})
}

func TestDisplayName(t *testing.T) {
	for typed, want := range map[string]string{
		"Ada Lovelace": "Ada Lovelace", "  Ada ": "Ada", "a/b?secret=X&é": "a/b?secret=X&é", "<b>Ada</b>": "<b>Ada</b>",
		"Jose\u0301": "José", "山田太郎": "山田太郎", "محمد": "محمد", "👩\u200d💻 Ada": "👩\u200d💻 Ada",
		strings.Repeat("𝔘", 200): strings.Repeat("𝔘", 200), "O'Neil, Jr.": "O'Neil, Jr.",
	} {
		got, err := address.DisplayName(typed)
		require.NoError(t, err, "%q", typed)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{
		"", "   ", "Ada\nBcc: x", "Ada\r", "Ada\tB", "\x00", "Ada\x7f", "Ada\u0085", "Ada\u2028x", "Ada\u2029x", "Ada\u202ecod.exe",
		"\u2066Ada\u2069", "\u200fAda", "Ada\ufeff", "\xff", "\u200d", "\u3164\u2028", "Ada\ufffd", "\ue000", strings.Repeat("a", 201),
		strings.Repeat("a", 1<<20),
	} {
		_, err := address.DisplayName(bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%q", bad)
	}
}
