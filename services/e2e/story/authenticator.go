package story

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238 as every authenticator app does it
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
	"net/url"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// period is how long an authenticator app shows a code.
const period = 30 * time.Second

// totp is a code as RFC 6238 computes it: HMAC-SHA-1, six digits.
func totp(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	sum := mac.Sum(nil)
	number := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & 0x7fffffff
	return fmt.Sprintf("%06d", number%1_000_000)
}

// authenticator is somebody's app with one secret. A code is good once and one
// step of clock difference is allowed for, so it shows the codes of the step
// before, of this and of the next one in turn before it has to wait.
type authenticator struct {
	secret []byte
	used   int64
	last   string
}

// scan reads an enrollment the way a phone does, from the picture, and checks that
// the three forms of the secret agree.
func scan(e Enrollment) (*authenticator, error) {
	read, err := readQR(e.QRPNG)
	if err != nil {
		return nil, err
	}
	if read != e.OtpauthURI {
		return nil, fmt.Errorf("the QR code says %q, expected %q", read, e.OtpauthURI)
	}
	uri, err := url.Parse(read)
	if err != nil || uri.Scheme != "otpauth" || uri.Host != "totp" {
		return nil, fmt.Errorf("the QR code says %q, expected otpauth://totp/…", read)
	}
	query := uri.Query()
	if query.Get("secret") != e.Secret || query.Get("issuer") == "" {
		return nil, errors.New("the QR code lacks the issuer, or holds another secret than the one to type")
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil || len(secret) < 20 {
		return nil, fmt.Errorf("the secret is no base32 of at least 160 bits: %w", err)
	}
	return &authenticator{secret: secret, used: -1}, nil
}

// readQR reads a picture that holds a QR code and nothing else.
func readQR(content []byte) (string, error) {
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		return "", fmt.Errorf("the QR code is no PNG: %w", err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		return "", fmt.Errorf("the QR code: %w", err)
	}
	// Without the hint the library looks for a code in a photograph, and now and
	// then finds none in a clean picture.
	hints := map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true}
	read, err := qrcode.NewQRCodeReader().Decode(bitmap, hints)
	if err != nil {
		return "", fmt.Errorf("the QR code cannot be read: %w", err)
	}
	return read.GetText(), nil
}

// code returns a code that has not been used yet, waiting for one if need be.
func (a *authenticator) code(ctx context.Context, now func() time.Time) (string, error) {
	// A code must not become too old while it travels.
	const travel = 5 * time.Second
	for {
		step := max(a.used+1, stepOf(now().Add(travel))-1)
		if step <= stepOf(now())+1 {
			a.used, a.last = step, totp(a.secret, step)
			return a.last, nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return "", err
		}
	}
}

// wrong returns six digits that no step near now has.
func (a *authenticator) wrong(now func() time.Time) string {
	for guess := 0; ; guess++ {
		digits, near := fmt.Sprintf("%06d", guess), false
		for step := stepOf(now()) - 3; step <= stepOf(now())+3; step++ {
			near = near || totp(a.secret, step) == digits
		}
		if !near {
			return digits
		}
	}
}

func stepOf(t time.Time) int64 { return t.Unix() / int64(period/time.Second) }

// pause waits, or returns why it could not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
