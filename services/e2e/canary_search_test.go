package e2e

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// canaries are the secrets of a run, by what they are. They are looked for in every
// form in which programs write texts and bytes.
type canaries struct {
	texts map[string]string
	// codes are six digits, which numbers hold by accident: only one that stands
	// alone counts.
	codes map[string]string
}

func newCanaries() *canaries {
	return &canaries{texts: map[string]string{}, codes: map[string]string{}}
}

// add notes a secret, and the bytes that it is a spelling of.
func (c *canaries) add(what, secret string) string {
	c.texts[what] = secret
	// Tokens say by a prefix what they are. Of those of sessions, what is secret are
	// 32 bytes in the middle.
	if _, body, found := strings.Cut(secret, "_"); found {
		if raw, err := base64.RawURLEncoding.DecodeString(body); err == nil {
			c.texts[what+", its bytes"] = string(raw)
			if len(raw) > 66 {
				c.texts[what+", the secret in it"] = string(raw[34:66])
			}
		}
	}
	for name, decode := range map[string]func(string) ([]byte, error){
		"base64": base64.StdEncoding.DecodeString, "base64url": base64.RawURLEncoding.DecodeString,
		"base32": base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString,
	} {
		if raw, err := decode(secret); err == nil && len(raw) >= 10 {
			c.texts[what+", the bytes behind its "+name] = string(raw)
		}
	}
	return secret
}

// addCode notes a one-time code.
func (c *canaries) addCode(what, code string) string {
	c.codes[what] = code
	return code
}

// find returns which secrets are in a text, and in which form.
func (c *canaries) find(where []byte) (found []string) {
	// Encodings differ in case and in what they escape, so all is compared small.
	where = bytes.ToLower(where)
	for _, what := range slices.Sorted(maps.Keys(c.texts)) {
		for form, text := range forms(c.texts[what]) {
			if bytes.Contains(where, bytes.ToLower([]byte(text))) {
				found = append(found, what+" ("+form+")")
			}
		}
	}
	for what, code := range c.codes {
		if regexp.MustCompile(`(^|[^0-9a-z.:+-])` + code + `([^0-9a-z.:-]|$)`).Match(where) {
			found = append(found, what)
		}
	}
	return found
}

// forms are the spellings of a secret.
func forms(secret string) map[string]string {
	quoted := strconv.Quote(secret)
	ascii := strconv.QuoteToASCII(secret)
	inJSON, _ := json.Marshal(secret) // text always is
	all := map[string]string{
		"raw": secret, "hex": hex.EncodeToString([]byte(secret)),
		"query": url.QueryEscape(secret), "path": url.PathEscape(secret),
		"Go": quoted[1 : len(quoted)-1], "ASCII": ascii[1 : len(ascii)-1], "JSON": string(inJSON[1 : len(inJSON)-1]),
		"base32": strings.TrimRight(base32.StdEncoding.EncodeToString([]byte(secret)), "="),
	}
	// In the middle of something larger, base64 depends on where the secret begins.
	// The characters that neighbors have a part in are left out.
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		whole := len(padded) / 3 * 3
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
			all[name+" at "+strconv.Itoa(shift)] = encoding.EncodeToString(padded[:whole])[(shift*8+5)/6:]
		}
	}
	return all
}

// A search that finds nothing proves something only if it can find.
func TestCanaries_areFound(t *testing.T) {
	t.Parallel()
	c := newCanaries()
	c.add("password", `påss "wörd" & more/than+that`)
	c.add("key", base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a secret key")))
	c.addCode("code", "042137")
	for what, secret := range c.texts {
		for form, text := range forms(secret) {
			for _, around := range []string{"", "x", "xy"} {
				require.NotEmpty(t, c.find([]byte("time=2026 msg="+around+text+around)), "%s as %s", what, form)
			}
		}
		for shift := range 3 {
			around := bytes.Repeat([]byte("~"), shift)
			whole := slices.Concat(around, []byte(secret), around)
			require.NotEmpty(t, c.find([]byte(base64.StdEncoding.EncodeToString(whole))), "%s within base64", what)
			require.NotEmpty(t, c.find([]byte(strings.ToUpper(hex.EncodeToString(whole)))), "%s within hex", what)
		}
	}
	for _, line := range []string{"code=042137", `{"code":"042137"}`, "042137", "code 042137 is wrong"} {
		require.Equal(t, []string{"code"}, c.find([]byte(line)), line)
	}
	for _, line := range []string{"1700420137042137", "0.042137s", "a042137b", "nothing"} {
		require.Empty(t, c.find([]byte(line)), line)
	}
}
