package totp_test

import (
	"bytes"
	"image"
	"image/png"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/pquerna/otp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/auth/totp"
)

func TestURI_exact(t *testing.T) {
	require.Equal(t,
		"otpauth://totp/Twofold%20%28Acme%29:ada%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"+
			"&issuer=Twofold%20%28Acme%29&algorithm=SHA1&digits=6&period=30",
		totp.URI("Twofold (Acme)", "ada@example.com", rfcSecret))
}

// Names are typed by customers; what they type stays inside the label.
func TestURI_namesAddNothing(t *testing.T) {
	for _, label := range []string{
		"a/b?secret=X&é", "a&secret=X", "a#b", "a%26secret%3DX", "a?issuer=Evil", "a;b", "../../x", "a\r\nb", "a+b c", "é𝔘漢",
		"Evil:ada", "Evil%3Aada", "\xff\xfe", "",
	} {
		for _, issuer := range []string{"Acme", label} {
			requireURI(t, totp.URI(issuer, label, rfcSecret), issuer, label)
		}
	}
}

func TestURI_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		issuer, label := rapid.StringN(0, 10, -1).Draw(t, "issuer"), rapid.StringN(0, 20, -1).Draw(t, "label")
		requireURI(t, totp.URI(issuer, label, rfcSecret), issuer, label)
	})
}

func requireURI(t require.TestingT, uri, issuer, label string) {
	clean := func(s string) string {
		return strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(s, ":", " "), ""))
	}
	u, err := url.Parse(uri)
	require.NoError(t, err, uri)
	require.Equal(t, "otpauth", u.Scheme)
	require.Equal(t, "totp", u.Host)
	require.Empty(t, u.Fragment)
	q, err := url.ParseQuery(u.RawQuery)
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"secret": {rfcSecret.Base32()}, "issuer": {clean(issuer)}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"},
	}, q)
	require.Equal(t, 1, strings.Count(u.EscapedPath(), "/"), "the label is one path segment: %s", uri)
	want := clean(label)
	if clean(issuer) != "" {
		want = clean(issuer) + ":" + want
	}
	require.Equal(t, "/"+want, u.Path)
}

// Another implementation of the format reads ours.
func TestURI_readByLibrary(t *testing.T) {
	key, err := otp.NewKeyFromURL(totp.URI("Acme & Co", "a/b?secret=X&é", rfcSecret))
	require.NoError(t, err)
	require.Equal(t, "totp", key.Type())
	require.Equal(t, "Acme & Co", key.Issuer())
	require.Equal(t, "a/b?secret=X&é", key.AccountName())
	require.Equal(t, rfcSecret.Base32(), key.Secret())
	require.Equal(t, uint64(30), key.Period())
	require.Equal(t, otp.DigitsSix, key.Digits())
	require.Equal(t, otp.AlgorithmSHA1, key.Algorithm())
}

func TestURI_longNames_cutBetweenCharacters(t *testing.T) {
	uri := totp.URI(strings.Repeat("漢", 200), strings.Repeat("é", 200), rfcSecret)
	require.Less(t, len(uri), 700)
	u, err := url.Parse(uri)
	require.NoError(t, err)
	require.True(t, utf8.ValidString(u.Path))
	require.True(t, strings.HasPrefix(u.Path, "/漢漢"))
	require.Equal(t, rfcSecret.Base32(), u.Query().Get("secret"))
}

func TestQR_readByDecoder(t *testing.T) {
	for name, uri := range map[string]string{
		"usual":   totp.URI("Twofold", "ada@example.com", rfcSecret),
		"foreign": totp.URI("Bücher & Söhne", "a/b?secret=X&é", rfcSecret),
		"longest": totp.URI(strings.Repeat("漢", 200), strings.Repeat("é", 200), rfcSecret),
		"short":   "otpauth://totp/a",
	} {
		t.Run(name, func(t *testing.T) {
			data, err := totp.QR(uri)
			require.NoError(t, err)
			require.Less(t, len(data), 32<<10)
			img, err := png.Decode(bytes.NewReader(data))
			require.NoError(t, err)
			require.GreaterOrEqual(t, img.Bounds().Dx(), 256)
			require.Equal(t, img.Bounds().Dx(), img.Bounds().Dy())
			require.Equal(t, uri, decodeQR(t, img))
			requireQuietZone(t, img)
		})
	}
}

// Phones want the white border that a decoder of clean images can do without.
func requireQuietZone(t *testing.T, img image.Image) {
	t.Helper()
	size := img.Bounds().Dx()
	first := size // the first pixel of the finder pattern in the top left corner
	for i := range size {
		if r, _, _, _ := img.At(i, i).RGBA(); r == 0 {
			first = i
			break
		}
	}
	module := 0 // that corner is a line of seven black modules
	for r := uint32(0); r == 0; module++ {
		r, _, _, _ = img.At(first+module, first).RGBA()
	}
	module = (module - 1) / 7
	require.GreaterOrEqual(t, module, 4, "pixels to a module")
	require.Equal(t, 4*module, first)
	for i := range size {
		for _, p := range []image.Point{{i, first - 1}, {first - 1, i}, {i, size - first}, {size - first, i}} {
			r, _, _, _ := img.At(p.X, p.Y).RGBA()
			require.NotZero(t, r, "white at %v", p)
		}
	}
}

func decodeQR(t *testing.T, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	require.NoError(t, err)
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	require.NoError(t, err)
	return result.GetText()
}

func TestQR_tooLong_refused(t *testing.T) {
	_, err := totp.QR(strings.Repeat("a", 5000))
	require.Error(t, err)
}
