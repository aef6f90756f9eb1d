package session

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/grpctest"
)

const operatorToken = "operator-token-of-the-tests"

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 2, 9, 0, 0, 123_456_000, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// place is where a store and a stream are.
type place struct {
	addrs []string
	nats  string
	flush func()
}

// eachStore runs a test over every kind of store.
func eachStore(t *testing.T, test func(t *testing.T, p place)) {
	t.Helper()
	for name, open := range map[string]func(t *testing.T) place{
		"miniredis": func(t *testing.T) place {
			m := miniredis.RunT(t)
			return place{addrs: []string{m.Addr()}, flush: m.FlushAll}
		},
		"redis": func(t *testing.T) place {
			r := testkit.Redis(t)
			return place{addrs: []string{r.Addr()}, flush: func() { r.FlushAll(t) }}
		},
		"cluster": func(t *testing.T) place {
			r := testkit.RedisCluster(t)
			return place{addrs: r.Addrs(), flush: func() { r.FlushAll(t) }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			p.nats = testkit.NATS(t).URL()
			test(t, p)
		})
	}
}

// rig is one copy of the service behind the real server, over mutual TLS.
type rig struct {
	t      *testing.T
	svc    *Service
	bus    *events.Bus
	clock  *clock
	place  place
	server *grpctest.Server
	stop   func()
	auth   sessionv1.SessionServiceClient
}

// quick are settings with which nobody waits.
func quick() Config {
	return Config{KeepEvery: 50 * time.Millisecond, SweepEvery: 20 * time.Millisecond}
}

// newRig starts a copy and waits until it gives verdicts.
func newRig(t *testing.T, p place, c *clock, cfg Config) *rig {
	t.Helper()
	r := newIdleRig(t, p, c, cfg)
	r.start()
	r.waitReady()
	return r
}

// newIdleRig makes a copy that does nothing in the background yet.
func newIdleRig(t *testing.T, p place, c *clock, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, clock: c, place: p, stop: func() {}}

	nc, err := nats.Connect(p.nats, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	r.bus, err = events.NewBus(nc, events.Options{Log: log, Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)

	options := redis.UniversalOptions{Addrs: p.addrs, ContextTimeoutEnabled: true}
	db := redis.NewUniversalClient(&options)
	verdicts := redis.NewUniversalClient(VerdictOptions(redis.UniversalOptions{Addrs: p.addrs}, time.Second))
	t.Cleanup(func() { _, _ = db.Close(), verdicts.Close() })
	keys, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: []byte("k1-01234567890123456789012345678")})
	require.NoError(t, err)

	r.svc, err = New(cfg, Deps{
		Redis: db, Verdicts: verdicts, Bus: r.bus, Pages: pagetoken.New(keys), Now: c.Now, Log: log, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	r.serve(log)
	r.auth = sessionv1.NewSessionServiceClient(r.conn("auth"))
	return r
}

func (r *rig) serve(log *slog.Logger) {
	r.server = grpctest.New(r.t).Serve(grpcx.ServerConfig{
		Name: "session", Register: []func(grpc.ServiceRegistrar){r.svc.Register},
		VerifySession: r.svc.Verifier(), OperatorToken: operatorToken, Log: log,
	})
}

// conn is a connection of the holder of an identity; "" has no certificate.
func (r *rig) conn(identity string) *grpc.ClientConn {
	r.t.Helper()
	return r.server.Conn(identity)
}

// start runs the background loops; stop ends them.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	group, ctx := errgroup.WithContext(ctx)
	for _, work := range []func(context.Context) error{r.svc.Run, r.svc.Publish} {
		group.Go(func() error { return work(ctx) })
	}
	r.stop = sync.OnceFunc(func() { cancel(); require.NoError(r.t, group.Wait()) })
	r.t.Cleanup(r.stop)
}

func (r *rig) waitReady() {
	r.t.Helper()
	var err error
	require.Eventually(r.t, func() bool { err = r.svc.Ready(r.t.Context()); return err == nil },
		20*time.Second, 10*time.Millisecond, "ready")
	require.NoError(r.t, err)
}

// agent is a new agent of an account.
func agent(account string) string { return "accounts/" + account + "/agents/" + uuid.NewString() }

// off, on are enforcements.
func off(account string, revision int64) *sessionv1.Enforcement {
	return &sessionv1.Enforcement{Account: account, Revision: revision}
}

func on(account string, revision int64, since time.Time, grace time.Duration) *sessionv1.Enforcement {
	return &sessionv1.Enforcement{
		Account: account, Revision: revision, Enforced: true, EnforceTime: timestamppb.New(since),
		GracePeriod: durationpb.New(grace), UpdateTime: timestamppb.New(since),
	}
}

// request is a sign-in by password without second factor.
func request(agent string, e *sessionv1.Enforcement) *sessionv1.CreateSessionRequest {
	return &sessionv1.CreateSessionRequest{
		Agent: agent, AgentVersion: 1, Enforcement: e, AssuranceLevel: sessionv1.Session_AAL1,
		FirstFactor: sessionv1.Session_PASSWORD, Role: sessionv1.Session_AGENT, HasPassword: true,
		Client: &sessionv1.Client{Kind: sessionv1.Client_WEB, UserAgent: chrome, Address: "203.0.113.9"},
	}
}

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"

// create makes a session that must succeed.
func (r *rig) create(req *sessionv1.CreateSessionRequest) *sessionv1.Session {
	r.t.Helper()
	res, err := r.auth.CreateSession(r.t.Context(), req)
	require.NoError(r.t, err)
	return res.GetSession()
}

func (r *rig) validate(token string) (*sessionv1.Session, error) {
	res, err := r.auth.ValidateSession(r.t.Context(), &sessionv1.ValidateSessionRequest{Token: token})
	return res.GetSession(), err
}

// stands requires that a token is good.
func (r *rig) stands(token string) *sessionv1.Session {
	r.t.Helper()
	session, err := r.validate(token)
	require.NoError(r.t, err)
	return session
}

// over requires that a token is refused for a reason.
func (r *rig) over(token, reason string) {
	r.t.Helper()
	_, err := r.validate(token)
	requireReason(r.t, err, codes.Unauthenticated, reason)
}

func (r *rig) apply(e *sessionv1.Enforcement) int64 {
	r.t.Helper()
	res, err := sessionv1.NewSessionServiceClient(r.conn("policy")).ApplyEnforcement(r.t.Context(), &sessionv1.ApplyEnforcementRequest{Enforcement: e})
	require.NoError(r.t, err)
	return res.GetRevision()
}

func requireReason(t require.TestingT, err error, code codes.Code, reason string) {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	require.Error(t, err)
	require.Equal(t, code.String(), status.Code(err).String(), "%v", err)
	require.Equal(t, reason, errs.ReasonOf(err), "%v", err)
}

// testWriter logs into the test, as long as it runs.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(string(p))
	}
	return len(p), nil
}
