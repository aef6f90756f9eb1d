package totp

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/url"
	"strings"

	"github.com/boombuler/barcode/qr"
)

const (
	// Longest issuer and label once percent-encoded. They are only shown, and
	// what is longer makes a QR code too dense for the camera of a phone.
	maxIssuer = 120
	maxLabel  = 240

	// quietZone is the white border, in modules, that ISO/IEC 18004 wants around
	// a QR code; many scanners find nothing without it.
	quietZone = 4
	minPixels = 256
	minScale  = 4
)

// URI returns the key as authenticator apps import it, by the Key URI format:
//
//	otpauth://totp/Issuer:label?secret=…&issuer=Issuer&algorithm=SHA1&digits=6&period=30
//
// Issuer and label can be what a customer typed: every character outside the
// unreserved ones of RFC 3986 is percent-encoded, so none of them can add a
// parameter. The format forbids colons in both; they become spaces.
func URI(issuer, label string, secret Secret) string {
	issuer, label = escape(issuer, maxIssuer), escape(label, maxLabel)
	prefix := ""
	if issuer != "" {
		prefix = issuer + ":"
	}
	return "otpauth://totp/" + prefix + label +
		"?secret=" + secret.Base32() + "&issuer=" + issuer + "&algorithm=SHA1&digits=6&period=30"
}

// escape percent-encodes s and cuts it, between characters, to at most limit.
func escape(s string, limit int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, ":", " "), "")
	var out strings.Builder
	for _, r := range strings.TrimSpace(s) {
		// QueryEscape writes spaces as '+', which apps show as a plus.
		e := strings.ReplaceAll(url.QueryEscape(string(r)), "+", "%20")
		if out.Len()+len(e) > limit {
			break
		}
		out.WriteString(e)
	}
	return out.String()
}

// QR returns uri as a PNG of a QR code: black on white with its quiet zone, at
// least 256 pixels wide, each module a whole number of pixels.
func QR(uri string) ([]byte, error) {
	code, err := qr.Encode(uri, qr.M, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("totp: QR code: %w", err)
	}
	modules := code.Bounds().Dx()
	total := modules + 2*quietZone
	scale := max(minScale, (minPixels+total-1)/total)

	img := image.NewPaletted(image.Rect(0, 0, total*scale, total*scale), color.Palette{color.White, color.Black})
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			mx, my := x/scale-quietZone, y/scale-quietZone
			if image.Pt(mx, my).In(code.Bounds()) && isBlack(code.At(mx, my)) {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("totp: QR code: %w", err)
	}
	return out.Bytes(), nil
}

func isBlack(c color.Color) bool {
	r, _, _, _ := c.RGBA()
	return r == 0
}
