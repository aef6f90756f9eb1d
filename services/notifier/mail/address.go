package mail

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
)

// ErrAddress says that an address is not one that Twofold sends to.
var ErrAddress = errors.New("not a mail address")

// Limits of RFC 5321, section 4.5.3.1. The path limit of 256 counts the angle
// brackets.
const (
	maxLocalPart = 64
	maxAddress   = 254
)

// Only dot-atoms, no quoted local parts: nothing that can be accepted here needs
// quoting in a header or in an SMTP command, so nothing can break out of either
// (RFC 5322, section 3.2.3; CWE-93).
var (
	localPart = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
	hostName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
)

// asciiAddress returns the address as it is written on the wire: an
// internationalized domain in its ASCII form.
func asciiAddress(address string) (string, error) {
	local, domain, found := strings.Cut(address, "@")
	if !found || len(local) > maxLocalPart || !localPart.MatchString(local) {
		return "", fmt.Errorf("%w: bad local part", ErrAddress)
	}
	if !hostName.MatchString(domain) {
		ascii, err := idna.Lookup.ToASCII(domain)
		if err != nil || !hostName.MatchString(ascii) {
			return "", fmt.Errorf("%w: bad domain", ErrAddress)
		}
		domain = ascii
	}
	if len(local)+1+len(domain) > maxAddress {
		return "", fmt.Errorf("%w: too long", ErrAddress)
	}
	return local + "@" + domain, nil
}
