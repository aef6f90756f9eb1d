package totp

import (
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/pquerna/otp/hotp"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

const (
	// SecretSize is the length of new secrets and the least that is accepted.
	SecretSize = 20
	// Digits is the length of a code.
	Digits = 6
	// Period is the length of a step.
	Period = 30 * time.Second
	// NoStep is the last accepted step of a factor that has accepted none.
	NoStep int64 = -1

	// skew is how many steps before and after the present one are accepted.
	skew = 1
)

// Why a code was refused. Callers outside learn that it was, not why; the
// difference is for the audit and for the person's own screen.
var (
	// ErrIncorrect: no step of the window has this code.
	ErrIncorrect = errors.New("totp: the code is wrong")
	// ErrReplayed: the code is right for a step that was accepted before, or that
	// lies before one that was.
	ErrReplayed = errors.New("totp: the code was used before")
	// ErrWeakSecret: the stored secret is shorter than any we make. It means that
	// the store is damaged and says nothing about the code.
	ErrWeakSecret = fmt.Errorf("totp: the secret has fewer than %d bytes", SecretSize)
)

// Secret is what the server and the authenticator app share.
type Secret []byte

// NewSecret draws a secret from random, which is crypto/rand.Reader but in tests.
func NewSecret(random io.Reader) (Secret, error) {
	secret := make(Secret, SecretSize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, fmt.Errorf("totp: new secret: %w", err)
	}
	return secret, nil
}

// Base32 returns the secret as people type it into an app: without padding.
func (s Secret) Base32() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s)
}

// String hides the secret from logs and error texts.
func (s Secret) String() string { return "[TOTP secret]" }

// GoString does for %#v what String does for %v.
func (s Secret) GoString() string { return s.String() }

// LogValue does the same for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON refuses: the secret leaves the service once, as Base32 and URI.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("totp: a secret is not for marshaling")
}

// Code is six digits. The zero Code matches nothing.
type Code struct {
	digits string
}

// ParseCode accepts exactly six ASCII digits and nothing around them. Digits of
// other scripts and white space are refused rather than tidied: whatever a
// verifier forgives, a replay check on the text has to forgive alike
// (CVE-2025-6014). Apps that want to be kind remove spaces before they send.
func ParseCode(s string) (Code, error) {
	if len(s) != Digits {
		return Code{}, errMalformed()
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return Code{}, errMalformed()
		}
	}
	return Code{digits: s}, nil
}

func errMalformed() error {
	return errs.New(codes.InvalidArgument, errs.ReasonTOTPCodeMalformed, "The code is six digits, without spaces.")
}

// Match looks for code in the step of now and one either side, and returns the
// step to remember as the last one accepted. Only steps after lastStep count, so
// a code is good once and time does not run backward (RFC 6238, section 5.2).
//
// Two neighboring steps share a code about once in a million. Match then takes
// the earliest that is still free: taking the later one, or comparing with the
// last code instead of the last step, would refuse the next code of a person
// who did nothing wrong. The price is that this one code works twice.
//
// The error is [ErrIncorrect], [ErrReplayed] or [ErrWeakSecret].
func Match(secret Secret, code Code, now time.Time, lastStep int64) (step int64, err error) {
	if len(secret) < SecretSize {
		return 0, ErrWeakSecret
	}
	present := Step(now)
	step, used := NoStep, false
	// From the latest to the earliest, and never stopping early: the time taken
	// tells nothing about which step matched.
	for s := present + skew; s >= present-skew; s-- {
		if s < 0 || !equal(secret, s, code) {
			continue
		}
		if s > lastStep {
			step = s
		} else {
			used = true
		}
	}
	switch {
	case step != NoStep:
		return step, nil
	case used:
		return 0, ErrReplayed
	default:
		return 0, ErrIncorrect
	}
}

// Step returns the number of the step that t is in, from the Unix epoch.
func Step(t time.Time) int64 {
	seconds := t.Unix()
	if seconds < 0 {
		return NoStep // before the epoch there are no steps
	}
	return seconds / int64(Period/time.Second)
}

func equal(secret Secret, step int64, code Code) bool {
	want, err := hotp.GenerateCode(secret.Base32(), uint64(step)) //nolint:gosec // the caller has refused negative steps
	if err != nil {
		return false // only for secrets that are not base32, and ours is
	}
	return subtle.ConstantTimeCompare([]byte(want), []byte(code.digits)) == 1
}
