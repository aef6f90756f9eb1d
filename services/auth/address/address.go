package address

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// Lengths in octets: RFC 5321, 4.5.3.1, where a path of 256 includes its angle
// brackets, and RFC 1035 for a label.
const (
	maxLocal   = 64
	maxDomain  = 253
	maxAddress = 254
	// maxTyped bounds what is read at all: a domain may shrink when encoded.
	maxTyped = 4 * maxAddress
)

// Address is one valid address. The zero Address is none.
type Address struct {
	local, domain string
}

// Parse reads an address. Nothing around it is trimmed: whoever trims does so
// where people type. The error is INVALID_ARGUMENT with reason EMAIL_INVALID.
func Parse(s string) (Address, error) {
	// The replacement character stands for bytes that were no text, ours included.
	if len(s) > maxTyped || strings.ContainsRune(s, utf8.RuneError) {
		return Address{}, errInvalid()
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || !validLocal(local) {
		return Address{}, errInvalid()
	}
	domain, ok = asciiDomain(domain)
	if !ok || len(local)+1+len(domain) > maxAddress {
		return Address{}, errInvalid()
	}
	return Address{local: local, domain: domain}, nil
}

// String returns the address as mail is sent to it: the local part as it was
// written, the domain in lower-case ASCII.
func (a Address) String() string {
	if a.domain == "" {
		return ""
	}
	return a.local + "@" + a.domain
}

// Key returns the canonical form in which addresses are compared and looked up.
// Dots and what follows a '+' stay: they mean something to some servers.
func (a Address) Key() string { return strings.ToLower(a.String()) }

// validLocal is Dot-string of RFC 5321, 4.1.2: atoms with single dots between.
func validLocal(local string) bool {
	if local == "" || len(local) > maxLocal {
		return false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.Trim(atom, atext) != "" {
			return false
		}
	}
	return true
}

// atext of RFC 5322, 3.2.3.
const atext = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"

// asciiDomain returns the ASCII form of a domain of at least two labels whose
// last one is not a number (that would be an IPv4 address).
func asciiDomain(domain string) (string, bool) {
	// Mapped as a browser maps what people type (UTS 46), then checked as a
	// registry would.
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
		idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.ValidateLabels(true), idna.CheckHyphens(true))
	ascii, err := profile.ToASCII(domain)
	if err != nil || len(ascii) > maxDomain {
		return "", false
	}
	labels := strings.Split(ascii, ".")
	last := labels[len(labels)-1]
	if len(labels) < 2 || strings.Trim(last, "0123456789") == "" {
		return "", false
	}
	// Not left to the library: nothing but these may reach a mail's envelope.
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, ldh) != "" ||
			strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return "", false
		}
	}
	return ascii, true
}

const ldh = "abcdefghijklmnopqrstuvwxyz0123456789-"

func errInvalid() error {
	return errs.New(codes.InvalidArgument, errs.ReasonEmailInvalid,
		"The email address is not a plain address such as name@example.com.")
}
