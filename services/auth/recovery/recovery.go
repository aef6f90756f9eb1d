package recovery

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
)

const (
	// Count is how many codes a set has.
	Count = 10

	bits      = 128
	length    = 26 // digits of five bits, the last of which has two spare ones
	groupSize = 4
	// maxTyped bounds what is read at all: a code with a space around every digit.
	maxTyped = 3 * length

	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

	purpose keyring.Purpose = "recovery-code"
)

// Code is one recovery code. The zero Code matches nothing.
type Code struct {
	digits string // canonical: upper case, no hyphens
}

// Text returns the code as it is shown, once: XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XX.
func (c Code) Text() string {
	var groups []string
	for d := c.digits; d != ""; {
		n := min(groupSize, len(d))
		groups, d = append(groups, d[:n]), d[n:]
	}
	return strings.Join(groups, "-")
}

// String hides the code from logs and error texts.
func (c Code) String() string { return "[recovery code]" }

// GoString does for %#v what String does for %v.
func (c Code) GoString() string { return c.String() }

// LogValue does the same for log/slog.
func (c Code) LogValue() slog.Value { return slog.StringValue(c.String()) }

// NewSet draws Count codes from random, which is crypto/rand.Reader but in tests.
func NewSet(random io.Reader) ([]Code, error) {
	set := make([]Code, Count)
	for i := range set {
		raw := make([]byte, bits/8)
		if _, err := io.ReadFull(random, raw); err != nil {
			return nil, fmt.Errorf("recovery: new codes: %w", err)
		}
		set[i] = Code{digits: encoding().EncodeToString(raw)}
	}
	return set, nil
}

// Parse reads a code as people type it: in either case, with hyphens and spaces
// where they like. Everything else is refused, also the letters I, L, O and U,
// which no code has. The error is INVALID_ARGUMENT, RECOVERY_CODE_MALFORMED.
func Parse(typed string) (Code, error) {
	if len(typed) > maxTyped {
		return Code{}, errMalformed(errors.New("too long"))
	}
	// Only ASCII is folded: ToUpper of the whole would turn 'ı' into 'I'.
	digits := strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ':
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		default:
			return r
		}
	}, typed)
	if len(digits) != length || strings.Trim(digits, alphabet) != "" {
		return Code{}, errMalformed(errors.New("not 26 digits of base32"))
	}
	raw, err := encoding().DecodeString(digits)
	if err != nil {
		return Code{}, errMalformed(err)
	}
	// The two spare bits are zero, so that a code has one spelling.
	if encoding().EncodeToString(raw) != digits {
		return Code{}, errMalformed(errors.New("spare bits are set"))
	}
	return Code{digits: digits}, nil
}

func encoding() *base32.Encoding {
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)
}

func errMalformed(cause error) error {
	return errs.New(codes.InvalidArgument, errs.ReasonRecoveryCodeMalformed,
		"A recovery code has 26 letters and digits, in groups of four.").WithCause(cause)
}

// Owner is what a stored code is bound to.
type Owner struct {
	Account, Agent string
	// Generation counts the agent's sets; making a new set raises it.
	Generation int64
}

// Hash returns what is stored in place of the code.
func Hash(keys *keyring.Keyring, owner Owner, code Code) []byte {
	return keys.MAC(purpose, owner.words(code)...)
}

// Match returns the index of the stored hash that is code's, or -1. It compares
// with every hash, so that the time does not tell which one it was. An error means
// that there is no answer: the code is none of those that can be read, and might be
// one of those whose key is not in the keys file.
func Match(keys *keyring.Keyring, owner Owner, code Code, stored [][]byte) (int, error) {
	found := -1
	if code.digits == "" {
		return found, nil
	}
	var unreadable error
	for i, hash := range stored {
		if err := keys.CanRead(hash); err != nil {
			unreadable = fmt.Errorf("recovery: code %d of %d: %w", i+1, len(stored), err)
		}
		if keys.VerifyMAC(purpose, hash, owner.words(code)...) {
			found = i
		}
	}
	if found < 0 {
		return found, unreadable
	}
	return found, nil
}

func (o Owner) words(code Code) []string {
	return []string{o.Account, o.Agent, strconv.FormatInt(o.Generation, 10), code.digits}
}
