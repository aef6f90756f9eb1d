package grpcx_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/testkit/grpctest"
)

const operatorToken = "operator-token-of-the-tests"

// harness is a probe behind the real server, over real mutual TLS on a
// connection in memory.
type harness struct {
	t         *testing.T
	probe     *probe
	authority *mtls.Authority
	listener  *bufconn.Listener
	log       *logBuffer
	metrics   *prometheus.Registry
	verified  []string // tokens the verifier was asked about
	mu        sync.Mutex
	stop      func() error // ends the server and returns what Serve did
}

func newHarness(t *testing.T, change func(*grpcx.ServerConfig)) *harness {
	authority, err := mtls.NewAuthority(time.Now)
	require.NoError(t, err)
	source, err := authority.Source("probe")
	require.NoError(t, err)
	h := &harness{
		t: t, probe: &probe{}, authority: authority, listener: bufconn.Listen(1 << 20),
		log: &logBuffer{}, metrics: prometheus.NewRegistry(),
	}
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	config := grpcx.ServerConfig{
		Name:          "probe",
		Register:      []func(grpc.ServiceRegistrar){h.probe.register(t)},
		TLS:           grpctest.PublicTLS(source),
		VerifySession: h.verify,
		OperatorToken: operatorToken,
		StopTimeout:   5 * time.Second,
		Log:           slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:       h.metrics,
		Now:           time.Now,
	}
	if change != nil {
		change(&config)
	}
	server, err := grpcx.NewServer(config)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, h.listener) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() { require.NoError(t, h.stop()) })
	return h
}

// verify knows three people and one token of a sign-in that is not finished.
func (h *harness) verify(_ context.Context, token string) (*authz.Person, error) {
	h.mu.Lock()
	h.verified = append(h.verified, token)
	h.mu.Unlock()
	roles := map[string]sessionv1.Session_Role{
		"agent-token": sessionv1.Session_AGENT, "admin-token": sessionv1.Session_ADMIN, "owner-token": sessionv1.Session_OWNER,
	}
	if role, ok := roles[token]; ok {
		return &authz.Person{Account: "acme", Agent: "a1", Role: role}, nil
	}
	switch token {
	case "over-token":
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionEndedByMFAPolicy, "Over.")
	case "store-down-token":
		return nil, status.Error(codes.Unavailable, "dial tcp 10.1.2.3:6379")
	case "not-asked-right-token":
		return nil, errs.New(codes.PermissionDenied, errs.ReasonCallerNotPermitted, "").GRPCStatus().Err()
	}
	return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "Unknown.").GRPCStatus().Err()
}

// conn returns a connection by the holder of an identity; "" has no certificate.
func (h *harness) conn(identity string) *grpc.ClientConn {
	var config *tls.Config
	if identity == "" {
		source := func() (*mtls.Material, error) { return &mtls.Material{Roots: h.authority.Roots()}, nil }
		config = mtls.ClientConfig(source, "probe")
		config.GetClientCertificate = nil
	} else {
		source, err := h.authority.Source(identity)
		require.NoError(h.t, err)
		config = mtls.ClientConfig(source, "probe")
	}
	return h.dial(grpcx.DialOptions{TLS: config})
}

func (h *harness) dial(options grpcx.DialOptions) *grpc.ClientConn {
	options.Dialer = func(ctx context.Context, _ string) (net.Conn, error) { return h.listener.DialContext(ctx) }
	conn, err := grpcx.Dial("passthrough:///probe", options)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, conn.Close()) })
	return conn
}

// call calls a method of the probe.
func (h *harness) call(conn *grpc.ClientConn, method string, pairs ...string) error {
	ctx := metadata.AppendToOutgoingContext(h.t.Context(), pairs...)
	return conn.Invoke(ctx, "/"+probeService+"/"+method, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{})
}

// requireStatus checks code and reason, and that there is exactly one ErrorInfo.
func requireStatus(t *testing.T, err error, code codes.Code, reason string) *status.Status {
	t.Helper()
	st, ok := status.FromError(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code.String(), st.Code().String(), "%v", err)
	if code == codes.OK {
		return st
	}
	infos := 0
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			infos++
			require.Equal(t, "twofold", info.GetDomain())
			require.Equal(t, reason, info.GetReason())
		}
	}
	require.Equal(t, 1, infos, "ErrorInfo details in %v", st.Proto())
	return st
}

// logBuffer is a log that tests can read while the server writes.
type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

var errDriver = errors.New("pq: relation \"agents\" does not exist")
