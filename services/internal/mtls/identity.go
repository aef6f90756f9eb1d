package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// trustDomain is the authority part of every identity.
const trustDomain = "twofold"

var (
	errNoCertificate = errors.New("mtls: the peer sent no certificate")
	namePattern      = regexp.MustCompile(`^(` + Platform + `/)?[a-z][a-z0-9-]{0,62}$`)
)

// Platform is the identity of the platform that the suite is a part of. Its teams
// may have one each below it, such as `platform/billing`, so that the log and the
// audit can tell them apart. Nothing else has a second part: what is inside the
// suite is one thing of a name.
const Platform = "platform"

// ValidName reports whether name can be an identity.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// OfPlatform reports whether an identity is the platform's, or one of its teams'.
func OfPlatform(name string) bool {
	return ValidName(name) && (name == Platform || strings.HasPrefix(name, Platform+"/"))
}

// identityURI returns the URI that stands for a name in a certificate.
func identityURI(name string) (*url.URL, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("mtls: %q is not an identity: lower case letters, digits and dashes, at most 63, or platform/ and such a name", name)
	}
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/" + name}, nil
}

// Identity returns the name a certificate was issued for. It does not verify the
// certificate. A certificate with more than one URI has no identity, because two
// readers could then take it for two different services (X509-SVID section 5.2).
func Identity(cert *x509.Certificate) (string, error) {
	if len(cert.URIs) != 1 {
		return "", fmt.Errorf("mtls: a certificate with %d URIs has no identity", len(cert.URIs))
	}
	uri := cert.URIs[0]
	if len(uri.Path) > 0 {
		if want, err := identityURI(uri.Path[1:]); err == nil && *want == *uri {
			return uri.Path[1:], nil
		}
	}
	return "", fmt.Errorf("mtls: %q is no identity of %s", uri.Redacted(), trustDomain)
}

// PeerIdentity returns the identity of the other end of a connection that was
// made with the configurations of this package. It is empty when the peer sent
// no certificate, or none that was verified.
func PeerIdentity(state tls.ConnectionState) string {
	if !state.HandshakeComplete || len(state.VerifiedChains) == 0 {
		return ""
	}
	name, err := Identity(state.VerifiedChains[0][0])
	if err != nil {
		return ""
	}
	return name
}
