package policy

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// Schema is the name of the service's database schema.
const Schema = "policy"

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

// Config is what an installation may choose.
type Config struct {
	// MinGracePeriod is the shortest grace period an admin may set.
	MinGracePeriod time.Duration
	// DefaultGracePeriod is the grace period of a new account. It must be set:
	// zero would be a policy that ends sessions at once.
	DefaultGracePeriod time.Duration
	// ReconcileEvery is how often the session store is asked whether it began
	// anew; 0 is 5 s.
	ReconcileEvery time.Duration
}

// check says everything that is wrong with the configuration.
func (c Config) check() error {
	var problems []error
	if c.MinGracePeriod < 0 || c.MinGracePeriod > MaxGracePeriod {
		problems = append(problems, fmt.Errorf("policy: the minimum grace period %s is not within 0 and %s",
			c.MinGracePeriod, MaxGracePeriod))
	}
	if c.DefaultGracePeriod <= 0 || checkPeriod(c.DefaultGracePeriod, c.MinGracePeriod) != nil {
		problems = append(problems, fmt.Errorf("policy: the default grace period %s is not positive and within %s and %s",
			c.DefaultGracePeriod, c.MinGracePeriod, MaxGracePeriod))
	}
	if c.DefaultGracePeriod%time.Microsecond != 0 {
		problems = append(problems, errors.New("policy: the default grace period is finer than a microsecond"))
	}
	return errors.Join(problems...)
}

// Deps is what the process gives the service.
type Deps struct {
	// DB is the service's own schema, migrated.
	DB *sqldb.DB
	// Bus is where the outbox publishes.
	Bus *events.Bus
	// Sessions is the session service.
	Sessions sessionv1.SessionServiceClient
	// PageTokens seals the tokens of lists.
	PageTokens *pagetoken.Codec
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	// Now measures the deadlines of calls. What is decided by time goes by the SQL
	// clock.
	Now func() time.Time
}

// Service is the policy service.
type Service struct {
	db         *sqldb.DB
	server     *server
	relay      *outbox.Relay
	reconciler *reconciler
	refusals   *audit.Refusals
	log        *slog.Logger
}

// New wires the service. It opens nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		return nil, errors.New("policy: no clock")
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	refusals, err := newRefusals(deps)
	if err != nil {
		return nil, err
	}
	relay := outbox.New(deps.DB, deps.Bus, deps.Log, deps.Metrics)
	st := &store{db: deps.DB}
	return &Service{
		db:       deps.DB,
		relay:    relay,
		refusals: refusals,
		log:      deps.Log,
		server: &server{
			cfg: cfg, store: st, relay: relay, sessions: deps.Sessions,
			pageTokens: deps.PageTokens, log: deps.Log, metrics: m, now: deps.Now,
		},
		reconciler: newReconciler(st, deps.Sessions, cfg.ReconcileEvery, deps.Log, m),
	}, nil
}

// Register makes the service's methods known to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	policyv1.RegisterPolicyServiceServer(r, s.server)
	audit.Register(r, s.db)
	s.refusals.Register(r)
}

// Run does the background work until ctx ends: it tells a session store that began
// anew, and forgets old request ids.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.reconciler.run(ctx) })
	group.Go(func() error { return idempotency.Clean(ctx, s.db, s.log) })
	return group.Wait()
}

// Publish publishes events until ctx ends, and then what is left of them.
func (s *Service) Publish(ctx context.Context) error { return s.relay.Run(ctx) }

// Ready says whether the service can do its work. Events and sessions may lag
// behind, so only the database is asked.
func (s *Service) Ready(ctx context.Context) error { return s.db.Ping(ctx) }
