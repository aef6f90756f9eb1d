package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// Files are the PEM files of a client: its certificate, which carries its
// identity as the URI spiffe://twofold/NAME, the certificate's key, and the
// authorities that the service's certificate may come from.
type Files struct {
	Cert, Key, CA string
}

// TLSConfig returns the TLS configuration of a client that talks only to the
// holder of an identity, such as "session". The files are read now, so that a
// mistake is found at once, and again at each handshake, so that replacing them is
// all a rotation takes.
func TLSConfig(identity string, files Files) (*tls.Config, error) {
	if identity == "" {
		return nil, errors.New("client: whose identity to expect is not said")
	}
	if _, err := files.certificate(); err != nil {
		return nil, err
	}
	if _, err := files.roots(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return files.certificate()
		},
		// crypto/tls can check a server by host name only. An identity is a URI, so
		// that check is switched off and verify does all of it instead: chain,
		// validity, usage and identity. VerifyConnection runs at every handshake,
		// and its error ends it.
		InsecureSkipVerify: true, //nolint:gosec // see above: replaced, not omitted
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := files.roots()
			if err != nil {
				return err
			}
			return verify(state, roots, identity)
		},
	}, nil
}

func (f Files) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("client: read %s and %s: %w", f.Cert, f.Key, err)
	}
	return &cert, nil
}

func (f Files) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client: no certificate in %s", f.CA)
	}
	return roots, nil
}

func verify(state tls.ConnectionState, roots *x509.CertPool, identity string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("client: the server sent no certificate")
	}
	leaf, intermediates := state.PeerCertificates[0], x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("client: verify %s: %w", identity, err)
	}
	// Exactly one URI, or two readers could take one certificate for two services
	// (X509-SVID, section 5.2).
	want := url.URL{Scheme: "spiffe", Host: "twofold", Path: "/" + identity}
	if len(leaf.URIs) != 1 || *leaf.URIs[0] != want {
		return fmt.Errorf("client: connected to %v, not to %s", leaf.URIs, &want)
	}
	return nil
}
