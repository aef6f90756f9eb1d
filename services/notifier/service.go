package notifier

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/notifier/mail"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

// Schema is the name of the service's database schema.
const Schema = "notifier"

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
	// DB is the service's own schema, migrated.
	DB *sqldb.DB
	// Bus is where events come from.
	Bus *events.Bus
	// Agents and Accounts are the auth service.
	Agents   authv1.AgentServiceClient
	Accounts authv1.AccountServiceClient
	// Transport is the connections to the mail server, at least as many as there
	// are workers. The process closes it after Run.
	Transport *smtppool.Pool
	// PageTokens seals the tokens of lists.
	PageTokens *pagetoken.Codec
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	// Now is the wall clock. What is stored is decided by the SQL clock.
	Now func() time.Time
}

// Service is the notifier service.
type Service struct {
	db      *sqldb.DB
	server  *server
	workers int
	// refusals records refused calls of admins.
	refusals *audit.Refusals

	consumer *consumer
	fanner   *fanner
	courier  *courier
	upkeep   *upkeep
}

// New wires the service. It opens nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	renderer, err := mail.NewRenderer(mail.Config{From: cfg.MailFrom, Location: cfg.Location})
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	st := newStore(deps.DB)
	who := &people{agents: deps.Agents, accounts: deps.Accounts, now: deps.Now, names: map[string]accountName{}}
	refusals, err := newRefusals(deps, who)
	if err != nil {
		return nil, err
	}
	fanOuts, notices := newBell(), newBell()
	return &Service{
		db: deps.DB, workers: cfg.Workers, refusals: refusals,
		server:   &server{store: st, pageTokens: deps.PageTokens, notices: notices, metrics: m},
		consumer: &consumer{store: st, people: who, bus: deps.Bus, fanOuts: fanOuts, notices: notices, log: deps.Log, metrics: m},
		fanner: &fanner{
			store: st, people: who, lease: cfg.Lease, poll: cfg.PollEvery, work: fanOuts, notices: notices, log: deps.Log, metrics: m,
		},
		courier: &courier{
			store: st, people: who, writer: &writer{renderer: renderer, publicURL: cfg.PublicURL}, transport: deps.Transport,
			patience: patience{min: cfg.MinRetry, max: cfg.MaxRetry, giveUpAfter: cfg.GiveUpAfter},
			gate:     newGate(deps.Now, cfg.MinReconnect, cfg.MaxReconnect),
			lease:    cfg.Lease, poll: cfg.PollEvery, work: notices, now: deps.Now, log: deps.Log, metrics: m,
		},
		upkeep: &upkeep{store: st, retention: cfg.Retention, log: deps.Log, metrics: m},
	}, nil
}

// Register makes the service's methods known to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	notifierv1.RegisterNoticeServiceServer(r, s.server)
	audit.Register(r, s.db)
	s.refusals.Register(r)
}

// Run consumes events, makes notices of them and delivers those, until ctx ends.
// It then lets the mails end that are being handed over.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.consumer.run(ctx) })
	for range fanOutWorkers {
		group.Go(func() error { return s.fanner.run(ctx) })
	}
	for range s.workers {
		group.Go(func() error { return s.courier.run(ctx) })
	}
	group.Go(func() error { return s.upkeep.remove(ctx) })
	group.Go(func() error { return s.upkeep.measure(ctx) })
	return group.Wait()
}

// Ready says whether the service can do its work. Mails, events and auth may lag
// behind, so only the database is asked.
func (s *Service) Ready(ctx context.Context) error { return s.db.Ping(ctx) }
