package password

import (
	"errors"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

const (
	// MinLength and MaxLength are in code points after normalization.
	MinLength = 8
	MaxLength = 1000

	// maxBytes bounds what is normalized at all. MaxLength code points have at
	// most 4 bytes each, and at most three times that before composition.
	maxBytes = 3 * 4 * MaxLength
)

// errUnusable is what [normalize] finds wrong with a text that can be nobody's
// password, whatever its length.
var errUnusable = errors.New("password: not valid UTF-8, or too long")

// Check says whether password may become somebody's password. The error is
// INVALID_ARGUMENT with reason PASSWORD_UNACCEPTABLE.
func Check(password string) error {
	_, err := checked(password)
	return err
}

// checked returns a password that may be set, normalized.
func checked(password string) (string, error) {
	if !utf8.ValidString(password) {
		return "", invalid("The password is not valid text (UTF-8).")
	}
	normal, err := normalize(password)
	if err != nil {
		return "", invalid("The password has more than 1,000 characters.")
	}
	if utf8.RuneCountInString(normal) < MinLength {
		return "", invalid("The password has fewer than 8 characters.")
	}
	return normal, nil
}

func invalid(message string) error {
	return errs.New(codes.InvalidArgument, errs.ReasonPasswordUnacceptable, message)
}

// normalize brings the spellings of one text, which keyboards choose and people
// cannot see, to one form. Short passwords pass: an imported one may be shorter
// than those we let people choose.
func normalize(password string) (string, error) {
	if len(password) > maxBytes || !utf8.ValidString(password) {
		return "", errUnusable
	}
	normal := norm.NFC.String(password)
	if utf8.RuneCountInString(normal) > MaxLength {
		return "", errUnusable
	}
	return normal, nil
}
