package address

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// MaxDisplayName is in code points.
const MaxDisplayName = 200

// DisplayName checks the name of an agent or an account and returns it in
// Unicode normalization form C, without white space around it. Refused is what
// could forge the lines of a mail, a log or a page: control characters, line
// and paragraph separators, and the characters that turn the direction of text
// (UAX 9). The error is INVALID_ARGUMENT with reason INVALID_FIELD.
func DisplayName(s string) (string, error) {
	if len(s) > 4*3*MaxDisplayName || !utf8.ValidString(s) {
		return "", errName()
	}
	for _, r := range s {
		if forbidden(r) {
			return "", errName()
		}
	}
	name := strings.TrimSpace(norm.NFC.String(s))
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxDisplayName {
		return "", errName()
	}
	if strings.IndexFunc(name, visible) < 0 {
		return "", errName() // nothing to see, such as a lone joiner
	}
	return name, nil
}

func forbidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || // control
		unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || // line and paragraph separators
		unicode.Is(unicode.Bidi_Control, r) || // overrides, embeddings, isolates and marks
		unicode.Is(unicode.Noncharacter_Code_Point, r) ||
		unicode.Is(unicode.Co, r) || // private use: shown as anything
		r == utf8.RuneError || r == '\ufeff'
}

// visible leaves out the joiners and marks that some scripts and emoji need
// inside a name but that are nothing alone.
func visible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S)
}

func errName() error {
	return errs.New(codes.InvalidArgument, errs.ReasonInvalidField,
		"The name has 1 to 200 characters, without line breaks, control characters or marks that turn the direction of text.")
}
