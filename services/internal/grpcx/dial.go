package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// defaultTimeout bounds calls whose context has no deadline.
	defaultTimeout = 10 * time.Second
)

// serviceConfig spreads calls over the replicas a name resolves to, and lets
// them wait, within their deadline, for a callee that is still starting. Calls
// are not repeated: only the caller knows what repeating one does.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{"name": [{}], "waitForReady": true}]
}`

// DialOptions is what a connection is made of.
type DialOptions struct {
	// TLS is a client configuration of package mtls.
	TLS *tls.Config
	// Plaintext, instead of TLS, is for tests and for loopback.
	Plaintext bool
	// Dialer connects to an address, for servers in the same process; nil for TCP.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
	// Timeout bounds unary calls whose context has no deadline; 0 stands for 10 s.
	Timeout time.Duration
	// Tracing records the calls; nil for not at all.
	Tracing *tracing.Tracer
}

// Dial returns a connection to a target, such as `session:9000` or, with a Dialer,
// `passthrough:///session`. It connects when it is first used. Calls carry the
// request id and the trace of the call they are made for.
func Dial(target string, options DialOptions) (*grpc.ClientConn, error) {
	if (options.TLS == nil) != options.Plaintext {
		return nil, errors.New("grpcx: a connection needs either TLS or Plaintext")
	}
	creds := insecure.NewCredentials()
	if options.TLS != nil {
		creds = credentials.NewTLS(options.TLS)
	}
	timeout := options.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // a name server has no say in it
		// A callee that is just starting is found within moments.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithUnaryInterceptor(outgoingUnary(timeout, options.Tracing)),
		grpc.WithStreamInterceptor(outgoingStream(options.Tracing)),
	}
	dialOptions = append(dialOptions, options.Tracing.DialOptions()...)
	if options.Dialer != nil {
		dialOptions = append(dialOptions, grpc.WithContextDialer(options.Dialer))
	}
	conn, err := grpc.NewClient(target, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("grpcx: dial %s: %w", target, err)
	}
	return conn, nil
}

func outgoingUnary(timeout time.Duration, tracer *tracing.Tracer) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return invoke(tracer.OutgoingCall(withRequestID(ctx)), method, request, reply, conn, options...)
	}
}

func outgoingStream(tracer *tracing.Tracer) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		return open(tracer.OutgoingCall(withRequestID(ctx)), desc, conn, method, options...)
	}
}

// withRequestID adds the id of the call that ctx belongs to, unless whoever makes
// the call has set one.
func withRequestID(ctx context.Context) context.Context {
	id := authz.FromContext(ctx).RequestID
	if outgoing, _ := metadata.FromOutgoingContext(ctx); id == "" || len(outgoing.Get(authz.RequestIDKey)) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, authz.RequestIDKey, id)
}
