package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	// maxMessage bounds requests; the largest, an import of 1,000 agents, is well
	// under 1 MiB.
	maxMessage = 4 << 20
	// maxStreams bounds the calls one connection has open at a time.
	maxStreams = 4096
	// maxConnectionAge makes clients look for new replicas now and then. Calls get
	// the same time again to finish.
	maxConnectionAge = 10 * time.Minute
	// defaultStopTimeout is how long calls may take to finish when a server stops.
	defaultStopTimeout = 10 * time.Second
)

// ServerConfig is what a server is made of.
type ServerConfig struct {
	// Name tells servers of one process apart in metrics, such as `session`.
	Name string
	// Register holds the Register methods of the services to serve.
	Register []func(grpc.ServiceRegistrar)
	// Omit names services that these register and that are not served here.
	Omit []string
	// TLS is a configuration of package mtls.
	TLS *tls.Config
	// Plaintext, instead of TLS, is for a server on loopback: everybody on the
	// machine can read along, and no caller has an identity.
	Plaintext bool
	// Reflection says who may ask what is served; by default holders of an
	// identity and the operator.
	Reflection authz.Reflection
	// VerifySession decides about bearer tokens. It may be nil when no method
	// admits people.
	VerifySession authz.SessionVerifier
	// OperatorToken is the operator's bearer token; empty for none.
	OperatorToken string
	// IsUnavailable reports whether an error of a handler means that a store
	// cannot be reached, such as sqldb.IsUnavailable. It may be nil.
	IsUnavailable func(error) bool
	// StopTimeout is how long calls may take to finish when the server stops; 0
	// stands for 10 s.
	StopTimeout time.Duration

	// Tracing records the calls; nil for not at all.
	Tracing *tracing.Tracer

	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Server serves gRPC.
type Server struct {
	grpc        *grpc.Server
	health      *health.Server
	stopTimeout time.Duration
	stopping    chan struct{}
	stopOnce    sync.Once
}

// NewServer returns a server that serves the registered services, health and
// reflection. It fails when a method does not say who may call it.
func NewServer(config ServerConfig) (*Server, error) {
	if config.Log == nil || config.Metrics == nil || config.Now == nil || config.Name == "" {
		return nil, errors.New("grpcx: a server needs Name, Log, Metrics and Now")
	}
	if (config.TLS == nil) != config.Plaintext {
		return nil, errors.New("grpcx: a server needs either TLS or Plaintext")
	}
	s := &Server{health: health.NewServer(), stopTimeout: config.StopTimeout, stopping: make(chan struct{})}
	if s.stopTimeout == 0 {
		s.stopTimeout = defaultStopTimeout
	}
	services := &registrar{omit: config.Omit}
	for _, register := range config.Register {
		register(services)
	}
	for name := range services.GetServiceInfo() {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(services, healthService{s.health})
	reflection.Register(services)
	if err := errors.Join(services.problems...); err != nil {
		return nil, err
	}
	calls, err := s.newChain(config, services)
	if err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(serverOptions(config, calls)...)
	services.registerWith(s.grpc)
	return s, nil
}

func (s *Server) newChain(config ServerConfig, services *registrar) (c *chain, err error) {
	c = &chain{
		log: config.Log, now: config.Now, isUnavailable: config.IsUnavailable,
		observers: services.observers, stopping: s.stopping,
	}
	if c.isUnavailable == nil {
		c.isUnavailable = func(error) bool { return false }
	}
	infos := services.GetServiceInfo()
	table, err := authz.NewTable(infos, config.Reflection)
	if err != nil {
		return nil, err
	}
	if c.authorizer, err = authz.NewAuthorizer(table, config.VerifySession, config.OperatorToken); err != nil {
		return nil, err
	}
	if c.requests, err = newRequestChecker(infos); err != nil {
		return nil, err
	}
	if c.metrics, err = newMetrics(config.Metrics, config.Name, infos); err != nil {
		return nil, err
	}
	return c, nil
}

func serverOptions(config ServerConfig, calls *chain) []grpc.ServerOption {
	creds := insecure.NewCredentials()
	if config.TLS != nil {
		creds = credentials.NewTLS(config.TLS)
	}
	return append(config.Tracing.ServerOptions(calls.authorizer.Knows),
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.UnaryInterceptor(calls.unary),
		grpc.StreamInterceptor(calls.stream),
		// Runs inside the chain, so that an unknown method is answered with a
		// reason and counted like everything else.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return errs.Internal(errors.New("grpcx: a method that is in no table was admitted"))
		}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: maxConnectionAge,
			Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: keepaliveTime / 2, PermitWithoutStream: true,
		}),
	)
}

// Unready turns health to NOT_SERVING, for clients that watch it and for probes.
// Calls are served as before.
func (s *Server) Unready() { s.health.Shutdown() }

// Serve accepts calls until ctx ends, and closes the listener. Then health turns
// to NOT_SERVING, streams end, other calls may finish for StopTimeout, and what
// is left after that is cut off. A stop that was asked for is no error.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(listener) }()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("grpcx: serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
		s.stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("grpcx: serve %s: %w", listener.Addr(), err)
		}
		return nil
	}
}

func (s *Server) stop() {
	s.stopOnce.Do(func() { close(s.stopping) })
	s.Unready()
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	timeout := time.NewTimer(s.stopTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
	case <-timeout.C:
		s.grpc.Stop() // cancels the contexts of what still runs
	}
}
