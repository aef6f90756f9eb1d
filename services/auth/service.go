package auth

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// Schema is the name of the service's database schema.
const Schema = "auth"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the service's database migrations, for sqldb.DB.Migrate.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return sub
}

// Deps is what the process gives the service.
type Deps struct {
	DB        *sqldb.DB
	Bus       *events.Bus
	Policies  policyv1.PolicyServiceClient
	Sessions  sessionv1.SessionServiceClient
	Keys      *keyring.Keyring
	Passwords *password.Hasher
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	// Now is the clock that one-time codes are compared with.
	Now func() time.Time
}

// Service is the auth service: accounts, agents, sign-in and factors.
type Service struct {
	cfg       Config
	store     *store
	bus       *events.Bus
	relay     *outbox.Relay
	policies  policyv1.PolicyServiceClient
	sessions  sessionv1.SessionServiceClient
	passwords *password.Hasher
	pages     *pagetoken.Codec
	log       *slog.Logger
	now       func() time.Time
	refusals  *audit.Refusals
	metrics   *metrics
}

// New builds the service. It opens nothing and starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		return nil, errors.New("auth: Deps.Now is missing")
	}
	refusals, err := newRefusals(deps)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Metrics, deps.Passwords)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg:       cfg,
		store:     &store{db: deps.DB, keys: deps.Keys},
		bus:       deps.Bus,
		relay:     outbox.New(deps.DB, deps.Bus, deps.Log, deps.Metrics),
		policies:  deps.Policies,
		sessions:  deps.Sessions,
		passwords: deps.Passwords,
		pages:     pagetoken.New(deps.Keys),
		log:       deps.Log,
		now:       deps.Now,
		refusals:  refusals,
		metrics:   m,
	}, nil
}

// Register adds the service's RPCs to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	authv1.RegisterAccountServiceServer(r, &accountServer{Service: s})
	authv1.RegisterAgentServiceServer(r, &agentServer{Service: s})
	authv1.RegisterSignInServiceServer(r, &signInServer{Service: s})
	authv1.RegisterProfileServiceServer(r, &profileServer{Service: s})
	audit.Register(r, s.store.db)
	s.refusals.Register(r)
}

// Run does the work behind the calls until ctx ends: it removes what has expired,
// looks at requests for new passwords, and records what admins did to sessions.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return idempotency.Clean(ctx, s.store.db, s.log) })
	g.Go(func() error { return s.removeExpired(ctx) })
	g.Go(func() error { return s.answerResets(ctx) })
	g.Go(func() error { return s.recordRevocations(ctx) })
	return g.Wait()
}

// Publish publishes events until ctx ends, and then what is left of them.
func (s *Service) Publish(ctx context.Context) error { return s.relay.Run(ctx) }

// Ready reports whether the service can do its work now.
func (s *Service) Ready(ctx context.Context) error {
	return s.store.db.Ping(ctx)
}
