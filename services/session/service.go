package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
)

// Deps are what the service needs from its process.
type Deps struct {
	// Redis keeps everything: a single Redis or a Redis Cluster. The client must
	// respect deadlines (ContextTimeoutEnabled).
	Redis redis.UniversalClient
	// Verdicts serves verdicts alone, with timeouts of its own as the budget of a
	// verdict, no retries, and a bounded queue: see VerdictOptions.
	Verdicts redis.UniversalClient
	// Bus carries the events.
	Bus *events.Bus
	// Pages makes page tokens.
	Pages   *pagetoken.Codec
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Service is the session service.
type Service struct {
	cfg     Config
	now     func() time.Time
	log     *slog.Logger
	db      redis.UniversalClient
	ahead   redis.Cmdable // the verdicts' client, which sends many commands at once
	store   *store
	pages   *pagetoken.Codec
	packer  packer
	touches *touches
	relay   *relay
	keeper  *keeper
	events  *consumer
	sweeper *sweeper
	metrics *metrics
	// refusals has refused calls of admins told.
	refusals *audit.Refusals
}

// VerdictOptions returns options for the client of the verdicts: a verdict that
// takes longer than budget is none. Pipelined commands ignore their contexts, so
// the budget is in the connection's timeouts.
func VerdictOptions(o redis.UniversalOptions, budget time.Duration) *redis.UniversalOptions {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = budget, budget, budget, budget
	o.MaxRetries = -1
	o.DialerRetries = 1
	pipeline := redis.DefaultBlockingAutoPipelineOptions()
	pipeline.MaxQueuedCommands = 4096
	o.AutoPipelineOptions = pipeline
	return &o
}

// New makes the service. It opens nothing and talks to nobody yet.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Redis == nil || deps.Verdicts == nil || deps.Bus == nil || deps.Pages == nil ||
		deps.Now == nil || deps.Log == nil || deps.Metrics == nil {
		return nil, errors.New("session: a dependency is missing")
	}
	cfg = cfg.withDefaults()
	ahead, err := deps.Verdicts.AutoPipeline()
	if err != nil {
		return nil, fmt.Errorf("session: client of the verdicts: %w", err)
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	s := &Service{
		cfg: cfg, now: deps.Now, log: deps.Log, db: deps.Redis, ahead: ahead, pages: deps.Pages, packer: newPacker(), metrics: m,
		relay: &relay{db: deps.Redis, bus: deps.Bus, log: deps.Log, wake: make(chan struct{}, 1)},
		store: &store{db: deps.Redis, cfg: cfg, scripts: newScripts(), floor: &floor{}},
	}
	s.store.changed = s.relay.notice
	s.touches = &touches{
		store: s.store, queue: make(chan judged, cfg.LastSeenQueue), log: deps.Log, now: s.clock, dropped: m.touchesDropped.Inc,
	}
	s.keeper = &keeper{
		store: s.store, bus: deps.Bus, log: deps.Log, now: s.clock,
		repaired: func(how string) { m.repairs.WithLabelValues(how).Inc() },
	}
	s.events = &consumer{store: s.store, keeper: s.keeper, bus: deps.Bus, log: deps.Log, now: s.clock}
	s.keeper.replay = s.events.replay
	s.keeper.guard(deps.Redis)
	s.keeper.guard(deps.Verdicts)
	started := deps.Now()
	s.sweeper = &sweeper{
		store: s.store, log: deps.Log, now: s.clock, owner: newGeneration(),
		steady: func() time.Duration { return deps.Now().Sub(started) }, // by the monotonic readings, if there are
		caughtUp: func(ctx context.Context) (bool, error) {
			p, err := deps.Bus.ConsumerPosition(ctx, durable)
			return err == nil && p.CaughtUp(), err
		},
		swept:   func(n int64) { m.swept.Add(float64(n)) },
		metrics: m,
	}
	if s.refusals, err = newRefusals(s, deps); err != nil {
		return nil, err
	}
	return s, nil
}

// clock is the time as it is stored: to the microsecond, without the monotonic
// reading.
func (s *Service) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Register adds the service's methods to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	sessionv1.RegisterSessionServiceServer(r, &sessionServer{Service: s})
	sessionv1.RegisterAgentSessionServiceServer(r, &peopleServer{Service: s})
	s.refusals.Register(r)
}

// Run does the work in the background until ctx ends: consume events, look after
// the store, sweep revocations, write when sessions were last used.
func (s *Service) Run(ctx context.Context) error {
	if err := s.checkEviction(ctx); err != nil {
		s.log.ErrorContext(ctx, "The session store must not evict", slog.Any("error", err))
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context) error{
		s.events.run, s.keeper.run, s.sweeper.run, s.touches.run,
	} {
		group.Go(func() error { return loop(ctx) })
	}
	return group.Wait()
}

// Publish publishes revocations until ctx ends, and then what is left of them.
func (s *Service) Publish(ctx context.Context) error { return s.relay.run(ctx) }

// Verifier returns the verdict on the tokens of people who call this process
// itself.
func (s *Service) Verifier() authz.SessionVerifier {
	return func(ctx context.Context, token string) (*authz.Person, error) {
		answer, err := s.verdict(ctx, token, true)
		if err != nil {
			return nil, err
		}
		return authz.NewPerson(answer)
	}
}

// verdict is the verdict on a token. touch counts it as use of the session.
func (s *Service) verdict(ctx context.Context, token string, touch bool) (*sessionv1.ValidateSessionResponse, error) {
	now := s.clock()
	j, err := s.store.validate(ctx, s.ahead, token, now)
	s.metrics.countVerdict(err)
	if err != nil {
		return nil, err
	}
	if touch {
		s.touches.offer(j, now)
	}
	return &sessionv1.ValidateSessionResponse{
		Session: s.toProto(j.record, j.revokeTime), AgentVersion: j.record.agentVersion,
	}, nil
}

// told waits until the events of a bucket's revocations are in the stream and taken
// by the consumer, so that what is about to be answered is known outside of the
// store too. The stream being away does not make a revocation fail: it holds, and
// its event follows.
func (s *Service) told(ctx context.Context, bucket int) {
	published, cancel := context.WithTimeout(ctx, s.cfg.PublishWait)
	defer cancel()
	err := s.relay.flush(published, bucket)
	if err == nil {
		settled, cancel := context.WithTimeout(ctx, s.cfg.SettleWait)
		defer cancel()
		err = s.keeper.settled(settled)
	}
	if err != nil {
		s.log.WarnContext(ctx, "Revocation answered before its event was taken", slog.Any("error", err))
	}
}

// Ready reports why the service can give no verdicts, or nil.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.checkEviction(ctx); err != nil {
		return err
	}
	_, err := s.store.generation(ctx)
	return err
}

// checkEviction refuses a Redis that forgets keys to make room: it would forget
// revocations. Where Redis does not say (managed ones may not), it is believed.
func (s *Service) checkEviction(ctx context.Context) error {
	check := func(ctx context.Context, db redis.Cmdable) error {
		info, err := db.Info(ctx, "memory").Result()
		if err != nil {
			return nil //nolint:nilerr // whether Redis answers at all is seen elsewhere
		}
		_, rest, found := strings.Cut(info, "maxmemory_policy:")
		policy, _, _ := strings.Cut(rest, "\r\n")
		if found && policy != "noeviction" {
			return fmt.Errorf("session: Redis has the maxmemory-policy %q, want noeviction: it would forget revocations", policy)
		}
		return nil
	}
	if cluster, ok := s.db.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return check(ctx, node) })
	}
	return check(ctx, s.db)
}
