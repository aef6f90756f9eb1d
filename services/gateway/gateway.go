package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/gateway/audit"
	"github.com/twofold-auth/twofold/services/gateway/rollout"
	"github.com/twofold-auth/twofold/services/internal/tracing"
	"github.com/twofold-auth/twofold/services/internal/verdict"
)

// Deps is what the process gives the gateway: a connection to each service and
// to the gateway's own gRPC server, where the rollout and the audit log are.
type Deps struct {
	Policy, Auth, Session, Notifier grpc.ClientConnInterface
	// Self reaches the gateway's own gRPC server, so that the routes of the
	// rollout and the audit log pass the same interceptors as all others.
	Self grpc.ClientConnInterface
	// Ready reports whether a part of the suite can do its work, by name.
	Ready map[string]func(context.Context) error
	// Pages are further pages to serve, by their path.
	Pages map[string]http.Handler
	Now   func() time.Time
	Log   *slog.Logger
	// Metrics takes the counters of requests.
	Metrics prometheus.Registerer
	// Tracing records requests; nil for not at all.
	Tracing *tracing.Tracer
}

// Service is the gateway.
type Service struct {
	cfg     Config
	now     func() time.Time
	routes  map[routeKey]*route
	rollout *rollout.Server
	audit   *audit.Server
	cookies cookies
	ready   map[string]func(context.Context) error
	unready atomic.Bool
	handler http.Handler
	log     *slog.Logger
	metrics *metrics
	tracing *tracing.Tracer
}

// New builds the gateway. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	routes, err := readRoutes()
	if err != nil {
		return nil, err
	}
	// While somebody watches a rollout or exports: the call itself was verified
	// when it began.
	sessions := sessionv1.NewSessionServiceClient(deps.Session)
	verifyAgain := verdict.Again(sessions)
	s := &Service{
		cfg: cfg,
		rollout: rollout.New(rollout.Deps{
			Policies:      policyv1.NewPolicyServiceClient(deps.Policy),
			Agents:        authv1.NewAgentServiceClient(deps.Auth),
			Sessions:      sessions,
			Notices:       notifierv1.NewNoticeServiceClient(deps.Notifier),
			Now:           deps.Now,
			VerifySession: verifyAgain,
			Interval:      cfg.WatchInterval,
			Limit:         cfg.WatchLimit,
		}),
		audit: audit.New(audit.Deps{
			Trails: map[string]auditv1.AuditTrailServiceClient{
				"policy":   auditv1.NewAuditTrailServiceClient(deps.Policy),
				"auth":     auditv1.NewAuditTrailServiceClient(deps.Auth),
				"notifier": auditv1.NewAuditTrailServiceClient(deps.Notifier),
			},
			Accounts:      authv1.NewAccountServiceClient(deps.Auth),
			VerifySession: verifyAgain,
			Now:           deps.Now,
		}),
		now:     deps.Now,
		routes:  routes,
		cookies: cookies{now: deps.Now},
		ready:   deps.Ready,
		log:     deps.Log,
		tracing: deps.Tracing,
	}
	if s.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, err
	}
	rest, err := s.rest(deps)
	if err != nil {
		return nil, err
	}
	if s.handler, err = s.pages(s.observe(s.api(rest)), deps.Pages); err != nil {
		return nil, err
	}
	return s, nil
}

// rest maps REST routes to gRPC calls.
func (s *Service) rest(deps Deps) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonOrFile{newJSON()}),
		runtime.WithMiddlewares(s.enter),
		// An escaped slash is part of a name, and names have none.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithIncomingHeaderMatcher(noHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithMetadata(handOn),
		runtime.WithForwardResponseOption(s.cookies.pack),
		runtime.WithForwardResponseOption(nameFile),
		runtime.WithForwardResponseRewriter(partOfFile),
		runtime.WithErrorHandler(s.handleError),
		runtime.WithRoutingErrorHandler(s.handleRoutingError),
		runtime.WithStreamErrorHandler(s.handleStreamError),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	open := openRPCs(s.routes)
	caller := func(conn grpc.ClientConnInterface) grpc.ClientConnInterface { return behalf{conn, open} }
	// Clients of connections, never the servers of this process: those would be
	// called past their interceptors.
	ctx := context.Background() //nolint:forbidigo // RegisterX…Client keeps it for nothing but its signature
	err := errors.Join(
		policyv1.RegisterPolicyServiceHandlerClient(ctx, mux, policyv1.NewPolicyServiceClient(caller(deps.Policy))),
		authv1.RegisterAccountServiceHandlerClient(ctx, mux, authv1.NewAccountServiceClient(caller(deps.Auth))),
		authv1.RegisterAgentServiceHandlerClient(ctx, mux, authv1.NewAgentServiceClient(caller(deps.Auth))),
		authv1.RegisterSignInServiceHandlerClient(ctx, mux, authv1.NewSignInServiceClient(caller(deps.Auth))),
		authv1.RegisterProfileServiceHandlerClient(ctx, mux, authv1.NewProfileServiceClient(caller(deps.Auth))),
		sessionv1.RegisterAgentSessionServiceHandlerClient(ctx, mux, sessionv1.NewAgentSessionServiceClient(caller(deps.Session))),
		notifierv1.RegisterNoticeServiceHandlerClient(ctx, mux, notifierv1.NewNoticeServiceClient(caller(deps.Notifier))),
		rolloutv1.RegisterRolloutServiceHandlerClient(ctx, mux, rollouts{rolloutv1.NewRolloutServiceClient(caller(deps.Self))}),
		auditv1.RegisterAuditServiceHandlerClient(ctx, mux, exports{auditv1.NewAuditServiceClient(caller(deps.Self))}),
	)
	if err != nil {
		return nil, fmt.Errorf("gateway: register routes: %w", err)
	}
	return mux, nil
}

// Register adds the gateway's own RPCs, those of the rollout and of the audit log,
// to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	s.rollout.Register(r)
	s.audit.Register(r)
}
