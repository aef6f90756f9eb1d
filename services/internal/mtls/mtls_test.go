package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/mtls"
)

// handshake connects a client and a server and returns whom the server saw.
func handshake(t *testing.T, server, client *tls.Config) (peer string, serverErr, clientErr error) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			serverErr = err
			return
		}
		secure := tls.Server(conn, server)
		serverErr = secure.HandshakeContext(t.Context())
		peer = mtls.PeerIdentity(secure.ConnectionState())
		if serverErr == nil {
			_, serverErr = secure.Write([]byte("x"))
		}
		_ = secure.Close()
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	secure := tls.Client(conn, client)
	// With TLS 1.3 a client learns with the first read that it was refused.
	if clientErr = secure.HandshakeContext(t.Context()); clientErr == nil {
		_, clientErr = secure.Read(make([]byte, 1))
	}
	_ = secure.Close()
	<-done
	return peer, serverErr, clientErr
}

func authority(t *testing.T, now func() time.Time) *mtls.Authority {
	a, err := mtls.NewAuthority(now)
	require.NoError(t, err)
	return a
}

func source(t *testing.T, a *mtls.Authority, name string) mtls.Source {
	s, err := a.Source(name)
	require.NoError(t, err)
	return s
}

func TestHandshake(t *testing.T) {
	ours, theirs := authority(t, time.Now), authority(t, time.Now)
	longAgo := authority(t, func() time.Time { return time.Now().Add(-2 * 366 * 24 * time.Hour) })
	// mixed presents one authority's certificate and trusts another.
	mixed := func(cert, roots *mtls.Authority, name string) mtls.Source {
		m, err := cert.Issue(name)
		require.NoError(t, err)
		m.Roots = roots.Roots()
		return func() (*mtls.Material, error) { return m, nil }
	}
	for _, test := range []struct {
		name           string
		server, client mtls.Source
		asked, peer    string
		good           bool
	}{
		{"both known", source(t, ours, "session"), source(t, ours, "auth"), "session", "auth", true},
		{"the server is another service", source(t, ours, "notifier"), source(t, ours, "auth"), "session", "", false},
		{"the server's authority is unknown", mixed(theirs, ours, "session"), source(t, ours, "auth"), "session", "", false},
		{"the client's authority is unknown", source(t, ours, "session"), mixed(theirs, ours, "auth"), "session", "", false},
		{"the server's certificate is over", mixed(longAgo, ours, "session"), mixed(ours, longAgo, "auth"), "session", "", false},
		{"the client's certificate is over", mixed(ours, longAgo, "session"), mixed(longAgo, ours, "auth"), "session", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			peer, serverErr, clientErr := handshake(t, mtls.ServerConfig(test.server), mtls.ClientConfig(test.client, test.asked))
			if test.good {
				require.NoError(t, serverErr)
				require.NoError(t, clientErr)
				require.Equal(t, test.peer, peer)
				return
			}
			require.Error(t, clientErr)
		})
	}
}

func TestHandshake_withoutACertificate(t *testing.T) {
	a := authority(t, time.Now)
	client := mtls.ClientConfig(source(t, a, "auth"), "session")
	client.GetClientCertificate = nil
	_, serverErr, clientErr := handshake(t, mtls.ServerConfig(source(t, a, "session")), client)
	require.Error(t, serverErr)
	require.Error(t, clientErr)
}

func TestHandshake_onlyTLS13(t *testing.T) {
	a := authority(t, time.Now)
	old := mtls.ClientConfig(source(t, a, "auth"), "session")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, serverErr, clientErr := handshake(t, mtls.ServerConfig(source(t, a, "session")), old)
	require.Error(t, serverErr)
	require.Error(t, clientErr)
}

// Without roots x509 asks the system, where any public authority would do.
func TestClientConfig_withoutRootsTrustsNobody(t *testing.T) {
	a := authority(t, time.Now)
	m, err := a.Issue("auth")
	require.NoError(t, err)
	m.Roots = nil
	_, _, clientErr := handshake(t, mtls.ServerConfig(source(t, a, "session")),
		mtls.ClientConfig(func() (*mtls.Material, error) { return m, nil }, "session"))
	require.ErrorContains(t, clientErr, "no authority to verify session")
}

func TestIdentity(t *testing.T) {
	for _, test := range []struct {
		uris []string
		want string
	}{
		{[]string{"spiffe://twofold/session"}, "session"},
		{nil, ""},
		{[]string{"spiffe://twofold/session", "spiffe://twofold/operator"}, ""},
		{[]string{"spiffe://twofold/"}, ""},
		{[]string{"spiffe://twofold"}, ""},
		{[]string{"spiffe://other/session"}, ""},
		{[]string{"https://twofold/session"}, ""},
		{[]string{"spiffe://twofold/platform/billing"}, "platform/billing"},
		{[]string{"spiffe://twofold/platform/"}, ""},
		{[]string{"spiffe://twofold/platform/billing/eu"}, ""},
		{[]string{"spiffe://twofold/platform/platform/billing"}, ""},
		{[]string{"spiffe://twofold/ns/session"}, ""},
		{[]string{"spiffe://twofold//session"}, ""},
		{[]string{"spiffe://twofold/Session"}, ""},
		{[]string{"spiffe://twofold/session?x"}, ""},
		{[]string{"spiffe://twofold/session#x"}, ""},
		{[]string{"spiffe://twofold:80/session"}, ""},
		{[]string{"spiffe://u@twofold/session"}, ""},
		{[]string{"spiffe://twofold/%73ession"}, ""},
	} {
		cert := &x509.Certificate{}
		for _, text := range test.uris {
			u, err := url.Parse(text)
			require.NoError(t, err)
			cert.URIs = append(cert.URIs, u)
		}
		name, err := mtls.Identity(cert)
		require.Equal(t, test.want, name, "%q", test.uris)
		require.Equal(t, test.want == "", err != nil, "%q", test.uris)
	}
}

// Replacing the files is all a rotation takes, of a certificate and of the
// authority; in between, what was there keeps working.
func TestFiles_rotation(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	first, err := mtls.OpenAuthority(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, first.IssueFiles(dir, "session"))
	files, err := mtls.Files(path("session.pem"), path("session-key.pem"), path("ca.pem"))
	require.NoError(t, err)
	for _, name := range []string{"ca.pem", "ca-key.pem", "session.pem", "session-key.pem"} {
		info, err := os.Stat(path(name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
	server := mtls.ServerConfig(files)
	connect := func(a *mtls.Authority) error {
		_, serverErr, clientErr := handshake(t, server, mtls.ClientConfig(source(t, a, "auth"), "session"))
		if clientErr == nil {
			return serverErr
		}
		return clientErr
	}
	require.NoError(t, connect(first))

	reopened, err := mtls.OpenAuthority(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, reopened.IssueFiles(dir, "session"))
	require.NoError(t, connect(first), "the authority of the files is still the first one")

	require.NoError(t, os.Remove(path("session-key.pem")))
	require.NoError(t, connect(first), "half a rotation changes nothing")

	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		require.NoError(t, os.Remove(path(name)))
	}
	second, err := mtls.OpenAuthority(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, second.IssueFiles(dir, "session"))
	require.NoError(t, connect(second))
	require.Error(t, connect(first))
}

func TestFiles_mistakesStopTheStart(t *testing.T) {
	dir := t.TempDir()
	a, err := mtls.OpenAuthority(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, a.IssueFiles(dir, "auth"))
	require.NoError(t, a.IssueFiles(dir, "policy"))
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, files := range [][3]string{
		{"none.pem", "auth-key.pem", "ca.pem"},
		{"auth.pem", "policy-key.pem", "ca.pem"},
		{"auth.pem", "auth-key.pem", "auth-key.pem"},
		{"ca.pem", "ca-key.pem", "ca.pem"}, // an authority is no identity
	} {
		_, err := mtls.Files(path(files[0]), path(files[1]), path(files[2]))
		require.Error(t, err, "%v", files)
	}
	require.Error(t, a.IssueFiles(dir, "ca"))
	require.Error(t, a.IssueFiles(dir, "../x"))
	require.NoError(t, a.IssueFiles(dir, "platform/billing"))
	_, err = mtls.Files(path("platform.billing.pem"), path("platform.billing-key.pem"), path("ca.pem"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(path("ca-key.pem")))
	_, err = mtls.OpenAuthority(dir, time.Now)
	require.Error(t, err, "half an authority is not replaced")
}
