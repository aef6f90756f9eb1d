package grpcx_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
)

func TestDial_needsTLSOrTheWordPlaintext(t *testing.T) {
	_, err := grpcx.Dial("passthrough:///x", grpcx.DialOptions{})
	require.ErrorContains(t, err, "either TLS or Plaintext")
}

// The client asks who is at the other end, not what the host is called.
func TestDial_refusesAServerThatIsSomebodyElse(t *testing.T) {
	h := newHarness(t, nil)
	source, err := h.authority.Source("auth")
	require.NoError(t, err)
	conn := h.dial(grpcx.DialOptions{TLS: mtls.ClientConfig(source, "session"), Timeout: 200 * time.Millisecond})
	err = h.call(conn, "Anyone")
	require.Error(t, err)
	require.ErrorContains(t, err, "connected to probe, not to session")
}

// Processes start in any order: a call waits for its callee, within its deadline.
func TestDial_waitsForACalleeThatIsNotThereYet(t *testing.T) {
	h := newHarness(t, nil)
	source, err := h.authority.Source("auth")
	require.NoError(t, err)
	up := make(chan struct{})
	asked := make(chan struct{}, 100)
	conn, err := grpcx.Dial("passthrough:///probe", grpcx.DialOptions{
		TLS: mtls.ClientConfig(source, "probe"),
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
			asked <- struct{}{}
			select {
			case <-up:
				return h.listener.DialContext(ctx)
			default:
				return nil, errDriver
			}
		},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	finished := make(chan error, 1)
	go func() { finished <- h.call(conn, "Service") }()
	<-asked // refused once
	close(up)
	require.NoError(t, <-finished)
}

func TestDial_callsWithoutADeadlineGetOne(t *testing.T) {
	silent := bufconn.Listen(1024) // nobody ever accepts
	conn, err := grpcx.Dial("passthrough:///probe", grpcx.DialOptions{
		Plaintext: true, Timeout: 50 * time.Millisecond,
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return silent.DialContext(ctx) },
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	err = conn.Invoke(context.WithoutCancel(t.Context()), anyone, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{})
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
}

// The all-in-one's public door: no identities, so internal methods stay closed.
func TestPlaintext_closesWhatNeedsAnIdentity(t *testing.T) {
	h := newHarness(t, func(c *grpcx.ServerConfig) { c.TLS, c.Plaintext = nil, true })
	conn := h.dial(grpcx.DialOptions{Plaintext: true})
	require.NoError(t, h.call(conn, "Session", "authorization", "Bearer agent-token"))
	require.NoError(t, h.call(conn, "Operator", "authorization", "Bearer "+operatorToken))
	requireStatus(t, h.call(conn, "Service"), codes.Unauthenticated, errs.ReasonCredentialsMissing)
	requireStatus(t, h.call(conn, "Operator"), codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

// A server for services alone does not talk to anybody without a certificate of
// the same authority.
func TestServerConfig_requiresACertificate(t *testing.T) {
	var own *mtls.Authority
	h := newHarness(t, func(c *grpcx.ServerConfig) {
		authority, err := mtls.NewAuthority(time.Now)
		require.NoError(t, err)
		source, err := authority.Source("probe")
		require.NoError(t, err)
		c.TLS, own = mtls.ServerConfig(source), authority
	})
	stranger := h.authority // another authority than the server's
	h.authority = own
	require.NoError(t, h.call(h.conn("auth"), "Service"))

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	without := h.conn("")
	require.Error(t, without.Invoke(ctx, anyone, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{}))

	foreign, err := stranger.Issue("auth")
	require.NoError(t, err)
	foreign.Roots = own.Roots()
	conn := h.dial(grpcx.DialOptions{
		TLS:     mtls.ClientConfig(func() (*mtls.Material, error) { return foreign, nil }, "probe"),
		Timeout: 200 * time.Millisecond,
	})
	require.Error(t, h.call(conn, "Service"))
}
