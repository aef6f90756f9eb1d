package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/twofold-auth/twofold/gen/client"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// authority issues certificates for the tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key = newKey(t)
	a.cert = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// issue returns a certificate that carries the URIs.
func (a *authority) issue(uris ...string) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	cert := a.sign(template, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// files writes a client's certificate and the authority into dir.
func (a *authority) files(dir string, cert tls.Certificate) client.Files {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	files := client.Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
	for path, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		files.Key:  {Type: "PRIVATE KEY", Bytes: der},
		files.CA:   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return files
}

// server is a session service whose methods are what a test wants them to be.
type server struct {
	sessionv1.UnimplementedSessionServiceServer
	validate func(context.Context) error
	revoke   func(context.Context) error
	health   *health.Server
	addr     string
}

func (s *server) ValidateSession(ctx context.Context, _ *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
	if err := s.validate(ctx); err != nil {
		return nil, err
	}
	return &sessionv1.ValidateSessionResponse{Session: &sessionv1.Session{Agent: s.addr}}, nil
}

func (s *server) RevokeSession(ctx context.Context, _ *sessionv1.RevokeSessionRequest) (*sessionv1.RevokeSessionResponse, error) {
	return &sessionv1.RevokeSessionResponse{}, s.revoke(ctx)
}

// serve starts a server with a certificate that carries the URIs.
func (a *authority) serve(uris ...string) *server {
	a.t.Helper()
	well := func(context.Context) error { return nil }
	s := &server{validate: well, revoke: well, health: health.NewServer()}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	listener, err := (&net.ListenConfig{}).Listen(a.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.issue(uris...)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	})))
	sessionv1.RegisterSessionServiceServer(g, s)
	healthpb.RegisterHealthServer(g, s.health)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(listener) }()
	a.t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil {
			a.t.Error(err)
		}
	})
	return s
}
