package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// lifetime is that of the authority and of what it issues. It outlives every
	// development machine's patience and is still too short to forget about.
	lifetime = 365 * 24 * time.Hour
	// clockSkew lets a certificate be used by a machine whose clock is behind.
	clockSkew = 5 * time.Minute

	authorityName = "ca"
)

// Authority issues identities. It is a throwaway: it has one key, no revocation
// and no renewal, which is right for development and tests and for nothing else.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// NewAuthority makes an authority that exists only in memory.
func NewAuthority(now func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	template, err := newTemplate("Twofold throwaway authority", now())
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	cert, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: key, now: now}, nil
}

// Issue returns the material of a new identity. DNS names are for clients that
// check them, such as browsers and grpcurl; the suite itself does not.
func (a *Authority) Issue(name string, dnsNames ...string) (*Material, error) {
	uri, err := identityURI(name)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	template, err := newTemplate(name, a.now())
	if err != nil {
		return nil, err
	}
	template.URIs = []*url.URL{uri}
	template.DNSNames = dnsNames
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leaf, err := sign(template, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return &Material{
		Certificate: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		Roots:       a.Roots(),
	}, nil
}

// Source issues an identity and returns it as a source, for servers and clients
// in the authority's own process.
func (a *Authority) Source(name string, dnsNames ...string) (Source, error) {
	material, err := a.Issue(name, dnsNames...)
	if err != nil {
		return nil, err
	}
	return func() (*Material, error) { return material, nil }, nil
}

// Roots returns the pool that holds this authority alone.
func (a *Authority) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return roots
}

// OpenAuthority returns the authority kept in dir, made and written there when
// there is none.
func OpenAuthority(dir string, now func() time.Time) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(certPath(dir, authorityName), keyPath(dir, authorityName))
	switch {
	case err == nil:
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || !pair.Leaf.IsCA {
			return nil, fmt.Errorf("mtls: %s is not an authority of ours", certPath(dir, authorityName))
		}
		return &Authority{cert: pair.Leaf, key: key, now: now}, nil
	case !errors.Is(err, os.ErrNotExist) || exists(certPath(dir, authorityName)) || exists(keyPath(dir, authorityName)):
		// Half an authority is not replaced: identities of the old one are about.
		return nil, fmt.Errorf("mtls: read the authority in %s: %w", dir, err)
	}
	a, err := NewAuthority(now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	return a, writePair(dir, authorityName, a.cert, a.key)
}

// IssueFiles issues an identity and writes it to <name>.pem and <name>-key.pem
// in dir. A slash in the name is a dot in the file's, where no name has one.
func (a *Authority) IssueFiles(dir, name string, dnsNames ...string) error {
	if name == authorityName {
		return fmt.Errorf("mtls: %q names the authority's own files", name)
	}
	material, err := a.Issue(name, dnsNames...)
	if err != nil {
		return err
	}
	return writePair(dir, name, material.Certificate.Leaf, material.Certificate.PrivateKey)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func certPath(dir, name string) string { return filepath.Join(dir, fileName(name)+".pem") }
func keyPath(dir, name string) string  { return filepath.Join(dir, fileName(name)+"-key.pem") }

func fileName(name string) string { return strings.ReplaceAll(name, "/", ".") }

func writePair(dir, name string, cert *x509.Certificate, key any) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("mtls: %w", err)
	}
	if err := writePEM(keyPath(dir, name), "PRIVATE KEY", der); err != nil {
		return err
	}
	return writePEM(certPath(dir, name), "CERTIFICATE", cert.Raw)
}

// writePEM replaces a file at once, so that a process that reads it meanwhile
// sees the old one or the new one and never half of either.
func writePEM(path, kind string, der []byte) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mtls: %w", err)
	}
	if err := os.WriteFile(temporary, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("mtls: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("mtls: %w", err)
	}
	return nil
}

func newTemplate(commonName string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("mtls: %w", err)
	}
	return cert, nil
}
