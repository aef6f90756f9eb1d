// Package grpctest puts services behind gRPC servers for tests: with the
// interceptors of production, over mutual TLS, on connections in memory. What a
// test calls through it passes the same interceptors as in a cluster; but people
// may come by themselves, without a gateway's certificate.
package grpctest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
)

const (
	bufferSize = 1 << 20
	// stopTimeout is what calls get to finish when a test ends.
	stopTimeout = 5 * time.Second
	// callTimeout leaves room for passwords that are hashed under the race detector.
	callTimeout = time.Minute
)

// Network is servers that trust one authority, which nobody else knows.
type Network struct {
	t         testing.TB
	authority *mtls.Authority
}

// New makes a network without servers.
func New(t testing.TB) *Network {
	t.Helper()
	authority, err := mtls.NewAuthority(time.Now)
	require.NoError(t, err)
	return &Network{t: t, authority: authority}
}

// PublicTLS returns the TLS configuration of a server that people reach too: a
// client may send no certificate, but one it sends must be good. In production
// people come through the gateway.
func PublicTLS(source mtls.Source) *tls.Config {
	config := mtls.ServerConfig(source)
	forServices := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		public, err := forServices(hello)
		if err != nil {
			return nil, err
		}
		public.ClientAuth = tls.VerifyClientCertIfGiven
		verify := public.VerifyConnection
		public.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil
			}
			return verify(state)
		}
		return public, nil
	}
	return config
}

// Server is a server that runs until its test ends.
type Server struct {
	network  *Network
	name     string
	listener *bufconn.Listener
}

// Serve serves what config registers. It fills in the certificate, and a log,
// metrics and a clock where config has none.
func (n *Network) Serve(config grpcx.ServerConfig) *Server {
	n.t.Helper()
	source, err := n.authority.Source(config.Name)
	require.NoError(n.t, err)
	config.TLS = PublicTLS(source)
	config.StopTimeout = stopTimeout
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Metrics == nil {
		config.Metrics = prometheus.NewRegistry()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	server, err := grpcx.NewServer(config)
	require.NoError(n.t, err)
	listener := bufconn.Listen(bufferSize)
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	n.t.Cleanup(func() {
		cancel()
		require.NoError(n.t, <-served)
	})
	return &Server{network: n, name: config.Name, listener: listener}
}

// Conn is a connection of the holder of an identity, or, with "", of somebody
// without a certificate.
func (s *Server) Conn(identity string) *grpc.ClientConn {
	t := s.network.t
	t.Helper()
	source := mtls.Source(func() (*mtls.Material, error) {
		return &mtls.Material{Roots: s.network.authority.Roots()}, nil
	})
	if identity != "" {
		var err error
		source, err = s.network.authority.Source(identity)
		require.NoError(t, err)
	}
	config := mtls.ClientConfig(source, s.name)
	if identity == "" {
		config.GetClientCertificate = nil
	}
	conn, err := grpcx.Dial("passthrough:///"+s.name, grpcx.DialOptions{
		TLS: config, Timeout: callTimeout,
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return s.listener.DialContext(ctx) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// Bearer returns a context for calls with a bearer token.
func Bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, authz.AuthorizationKey, "Bearer "+token)
}
