package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/gen/openapi"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/gateway/rollout"
	"github.com/twofold-auth/twofold/services/internal/authz"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeader         = 32 << 10
	stopTimeout       = 10 * time.Second
)

// Deps is what the process gives the gateway: a connection to each service and
// to the gateway's own gRPC server, where the rollout is.
type Deps struct {
	Policy, Auth, Session, Notifier grpc.ClientConnInterface
	// Self reaches the gateway's own gRPC server, so that the routes of the
	// rollout pass the same interceptors as all others.
	Self grpc.ClientConnInterface
	// VerifySession is asked again while somebody watches a rollout.
	VerifySession authz.SessionVerifier
	// Ready reports whether a part of the suite can do its work, by name.
	Ready map[string]func(context.Context) error
	// Pages are further pages to serve, by their path.
	Pages map[string]http.Handler
	Now   func() time.Time
	Log   *slog.Logger
}

// Service is the gateway.
type Service struct {
	cfg     Config
	rollout *rollout.Server
	cookies cookies
	ready   map[string]func(context.Context) error
	handler http.Handler
	log     *slog.Logger
}

// New builds the gateway. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg,
		rollout: rollout.New(rollout.Deps{
			Policies:      policyv1.NewPolicyServiceClient(deps.Policy),
			Agents:        authv1.NewAgentServiceClient(deps.Auth),
			Sessions:      sessionv1.NewSessionServiceClient(deps.Session),
			Notices:       notifierv1.NewNoticeServiceClient(deps.Notifier),
			Now:           deps.Now,
			VerifySession: deps.VerifySession,
			Interval:      cfg.WatchInterval,
			Limit:         cfg.WatchLimit,
		}),
		cookies: cookies{now: deps.Now},
		ready:   deps.Ready,
		log:     deps.Log,
	}
	rest, err := s.rest(deps)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", s.api(rest))
	mux.HandleFunc("GET /openapi.json", serveOpenAPI)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.serveReady)
	for path, page := range deps.Pages {
		mux.Handle(path, page)
	}
	s.handler = mux
	return s, nil
}

// rest maps REST routes to gRPC calls.
func (s *Service) rest(deps Deps) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newStrictJSON()),
		runtime.SetQueryParameterParser(&strictQuery{}),
		runtime.WithIncomingHeaderMatcher(noHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithMetadata(handOn),
		runtime.WithForwardResponseOption(s.cookies.pack),
		runtime.WithErrorHandler(s.handleError),
		runtime.WithRoutingErrorHandler(s.handleRoutingError),
		runtime.WithStreamErrorHandler(handleStreamError),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	// Clients of connections, never the servers of this process: those would be
	// called past their interceptors.
	ctx := context.Background() //nolint:forbidigo // RegisterX…Client keeps it for nothing but its signature
	err := errors.Join(
		policyv1.RegisterPolicyServiceHandlerClient(ctx, mux, policyv1.NewPolicyServiceClient(deps.Policy)),
		authv1.RegisterAccountServiceHandlerClient(ctx, mux, authv1.NewAccountServiceClient(deps.Auth)),
		authv1.RegisterAgentServiceHandlerClient(ctx, mux, authv1.NewAgentServiceClient(deps.Auth)),
		authv1.RegisterSignInServiceHandlerClient(ctx, mux, authv1.NewSignInServiceClient(deps.Auth)),
		authv1.RegisterProfileServiceHandlerClient(ctx, mux, authv1.NewProfileServiceClient(deps.Auth)),
		sessionv1.RegisterAgentSessionServiceHandlerClient(ctx, mux, sessionv1.NewAgentSessionServiceClient(deps.Session)),
		notifierv1.RegisterNoticeServiceHandlerClient(ctx, mux, notifierv1.NewNoticeServiceClient(deps.Notifier)),
		rolloutv1.RegisterRolloutServiceHandlerClient(ctx, mux, rolloutv1.NewRolloutServiceClient(deps.Self)),
	)
	if err != nil {
		return nil, fmt.Errorf("gateway: register routes: %w", err)
	}
	return mux, nil
}

// Register adds the gateway's own RPCs, those of the rollout, to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { s.rollout.Register(r) }

// Handler serves REST.
func (s *Service) Handler() http.Handler { return s.handler }

// Serve serves REST on a listener until ctx ends, and closes it. Calls under way
// may then finish for ten seconds.
func (s *Service) Serve(ctx context.Context, listener net.Listener) error {
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		// No WriteTimeout: it would cut streams. Calls have a deadline each.
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return calls },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("gateway: serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	s.rollout.EndWatches()
	if err := server.Shutdown(stopCtx); err != nil {
		endCalls()
		return fmt.Errorf("gateway: stop: %w", errors.Join(err, server.Close()))
	}
	return nil
}

func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(openapi.JSON)))
}

// Ready returns nil when every part can do its work.
func (s *Service) Ready(ctx context.Context) error {
	var problems []error
	for name, check := range s.ready {
		if err := check(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// serveReady answers 200 when every part can do its work, and otherwise 503 with
// the parts that cannot. Why they cannot is in the log.
func (s *Service) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	httpStatus := http.StatusOK
	parts := make(map[string]string, len(s.ready))
	for name, check := range s.ready {
		parts[name] = "ok"
		if err := check(ctx); err != nil {
			s.log.WarnContext(ctx, "Not ready", "part", name, "error", err)
			httpStatus, parts[name] = http.StatusServiceUnavailable, "unavailable"
		}
	}
	writeJSON(w, httpStatus, parts)
}

func writeJSON(w http.ResponseWriter, httpStatus int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone, or gets it
}
