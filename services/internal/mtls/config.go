package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Material is what one end of a connection needs: its own certificate, with the
// key, and the authorities whose certificates it accepts.
type Material struct {
	Certificate tls.Certificate
	Roots       *x509.CertPool
}

// Source returns the material as it is now. It is asked at every handshake.
type Source func() (*Material, error)

// ServerConfig returns the TLS configuration of a server that only holders of an
// identity may connect to.
func ServerConfig(source Source) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		material, err := source()
		if err != nil {
			return nil, err
		}
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"h2"},
			Certificates: []tls.Certificate{material.Certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    material.Roots,
			// A resumed connection is not verified against the roots as they are
			// now, and saves little between processes that keep theirs open.
			SessionTicketsDisabled: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				if len(state.PeerCertificates) == 0 {
					return errNoCertificate // ClientAuth has refused it already
				}
				_, err := Identity(state.PeerCertificates[0])
				return err
			},
		}, nil
	}
	return config
}

// ClientConfig returns the TLS configuration of a client that talks only to the
// holder of the identity server.
func ClientConfig(source Source, server string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			material, err := source()
			if err != nil {
				return nil, err
			}
			return &material.Certificate, nil
		},
		// crypto/tls can only check a server by host name, and keeps the roots it
		// started with. So its check is switched off and verifyServer does the
		// whole of it: chain, validity, key usage and identity, with today's roots.
		// VerifyConnection runs on every handshake, and its error ends it.
		InsecureSkipVerify: true, //nolint:gosec // see above: replaced, not omitted
		VerifyConnection: func(state tls.ConnectionState) error {
			material, err := source()
			if err != nil {
				return err
			}
			return verifyServer(state, material.Roots, server)
		},
	}
}

// verifyServer does what crypto/tls does for a client, except that the identity
// takes the place of the host name.
func verifyServer(state tls.ConnectionState, roots *x509.CertPool, server string) error {
	if len(state.PeerCertificates) == 0 {
		return errNoCertificate
	}
	if roots == nil {
		// Verify would take nil for the system's roots, which know nothing of us.
		return fmt.Errorf("mtls: no authority to verify %s with", server)
	}
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("mtls: verify %s: %w", server, err)
	}
	name, err := Identity(leaf)
	if err != nil {
		return err
	}
	if name != server {
		return fmt.Errorf("mtls: connected to %s, not to %s", name, server)
	}
	return nil
}
