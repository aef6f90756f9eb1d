package policy_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/grpctest"
	"github.com/twofold-auth/twofold/services/policy"
)

const (
	acme    = "accounts/acme/mfaPolicy"
	week    = 7 * 24 * time.Hour
	adminID = "01920000-0000-7000-8000-0000000000aa"

	operatorToken = "operator-token-of-the-tests"
)

// The bearer tokens of people: account, role, assurance level.
const (
	admin       = "acme:ADMIN:AAL2"
	plainAdmin  = "acme:ADMIN:AAL1" // has set up no second factor
	owner       = "acme:OWNER:AAL2"
	agent       = "acme:AGENT:AAL2"
	globexAdmin = "globex:ADMIN:AAL2"
)

// suite is the policy service with its real neighbors, but for the session
// service, which is a fake behind a real server.
type suite struct {
	t        *testing.T
	url      string
	db       *sqldb.DB
	nats     *testkit.NATSServer
	keys     *keyring.Keyring
	network  *grpctest.Network
	sessions *fakeSessions
	config   policy.Config
}

func newSuite(t *testing.T, url string) *suite {
	t.Helper()
	keys, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: []byte("a page token key only for testing")[:32]})
	require.NoError(t, err)
	db, err := sqldb.Open(t.Context(), url, policy.Schema)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), policy.Migrations()))
	return &suite{
		t: t, url: url, db: db, nats: testkit.NATS(t), keys: keys, network: grpctest.New(t),
		sessions: newFakeSessions(),
		config:   policy.Config{DefaultGracePeriod: week, ReconcileEvery: 20 * time.Millisecond},
	}
}

// onBoth runs a test on each database the service supports.
func onBoth(t *testing.T, test func(t *testing.T, s *suite)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSuite(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, newSuite(t, testkit.Postgres(t))) })
}

// process is one running copy of the service.
type process struct {
	s       *suite
	server  *grpctest.Server
	service *policy.Service
	metrics *prometheus.Registry
	// background runs Service.Run and Publish; a copy that was killed right after a commit
	// is one that never did.
	background func()
	stop       func()
}

// start starts a copy that answers calls. It does no background work before
// background is called.
func (s *suite) start() *process {
	s.t.Helper()
	nc, err := nats.Connect(s.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	metrics := prometheus.NewRegistry()
	bus, err := events.NewBus(nc, events.Options{Log: slog.New(slog.DiscardHandler), Metrics: metrics})
	require.NoError(s.t, err)
	require.NoError(s.t, bus.EnsureStreams(s.t.Context()))

	sessions := s.serve("session", func(r grpc.ServiceRegistrar) {
		sessionv1.RegisterSessionServiceServer(r, s.sessions)
	})
	service, err := policy.New(s.config, policy.Deps{
		DB: s.db, Bus: bus, Sessions: sessionv1.NewSessionServiceClient(sessions.Conn("policy")),
		PageTokens: pagetoken.New(s.keys), Log: slog.New(slog.DiscardHandler), Metrics: metrics, Now: time.Now,
	})
	require.NoError(s.t, err)
	p := &process{s: s, service: service, metrics: metrics}
	p.server = s.serve("policy", service.Register)

	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var running sync.WaitGroup
	p.background = func() {
		for _, work := range []func(context.Context) error{service.Run, service.Publish} {
			running.Go(func() {
				if err := work(ctx); err != nil {
					s.t.Errorf("run: %v", err)
				}
			})
		}
	}
	p.stop = func() {
		cancel()
		running.Wait()
	}
	s.t.Cleanup(p.stop)
	return p
}

// serve serves with the chain of production.
func (s *suite) serve(name string, register func(grpc.ServiceRegistrar)) *grpctest.Server {
	s.t.Helper()
	return s.network.Serve(grpcx.ServerConfig{
		Name: name, Register: []func(grpc.ServiceRegistrar){register},
		VerifySession: verify, OperatorToken: operatorToken, IsUnavailable: sqldb.IsUnavailable,
	})
}

// as returns a client of a service.
func (p *process) as(identity string) policyv1.PolicyServiceClient {
	return policyv1.NewPolicyServiceClient(p.server.Conn(identity))
}

// people returns a client whose callers are told apart by their bearer tokens.
func (p *process) people() policyv1.PolicyServiceClient { return p.as("") }

// with returns a context for a call with a bearer token.
func with(ctx context.Context, token string) context.Context { return grpctest.Bearer(ctx, token) }

func verify(_ context.Context, token string) (*authz.Person, error) {
	parts := strings.Split(token, ":")
	if len(parts) != 3 {
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "Unknown.")
	}
	return &authz.Person{
		Account: parts[0], Agent: adminID, SessionName: "accounts/" + parts[0] + "/agents/" + adminID + "/sessions/s",
		Role:           sessionv1.Session_Role(sessionv1.Session_Role_value[parts[1]]),
		AssuranceLevel: sessionv1.Session_AssuranceLevel(sessionv1.Session_AssuranceLevel_value[parts[2]]),
	}, nil
}

// create makes the policy of an account.
func (p *process) create(account string) *policyv1.MfaPolicy {
	p.s.t.Helper()
	resp, err := p.as("auth").CreateMfaPolicy(p.s.t.Context(), &policyv1.CreateMfaPolicyRequest{Account: account})
	require.NoError(p.s.t, err)
	return resp.GetMfaPolicy()
}

// stream returns every event of the stream, in its order.
func (s *suite) stream() []jetstream.Msg {
	s.t.Helper()
	return s.nats.Messages(s.t, events.Stream)
}

// published waits until the stream has n events, and returns them.
func (s *suite) published(n int) []jetstream.Msg {
	s.t.Helper()
	var all []jetstream.Msg
	require.Eventually(s.t, func() bool {
		all = s.stream()
		return len(all) >= n
	}, 20*time.Second, 20*time.Millisecond)
	require.Len(s.t, all, n)
	return all
}

// fakeSessions is the part of the session service that policy calls.
type fakeSessions struct {
	sessionv1.UnimplementedSessionServiceServer

	mu         sync.Mutex
	known      map[string]*sessionv1.Enforcement
	told       int
	asked      int // for the store's state
	generation string
	// answer is asked before anything else; nil is yes.
	answer func(ctx context.Context, account string) error
}

func newFakeSessions() *fakeSessions {
	return &fakeSessions{known: map[string]*sessionv1.Enforcement{}, generation: "one"}
}

func (f *fakeSessions) ask(ctx context.Context, account string) error {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, account)
}

func (f *fakeSessions) ApplyEnforcement(
	ctx context.Context, req *sessionv1.ApplyEnforcementRequest,
) (*sessionv1.ApplyEnforcementResponse, error) {
	e := req.GetEnforcement()
	if err := f.ask(ctx, e.GetAccount()); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told++
	if e.GetRevision() > f.known[e.GetAccount()].GetRevision() {
		f.known[e.GetAccount()] = e
	}
	return &sessionv1.ApplyEnforcementResponse{Revision: f.known[e.GetAccount()].GetRevision()}, nil
}

func (f *fakeSessions) GetStoreState(
	ctx context.Context, _ *sessionv1.GetStoreStateRequest,
) (*sessionv1.GetStoreStateResponse, error) {
	if err := f.ask(ctx, ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return &sessionv1.GetStoreStateResponse{Generation: f.generation}, nil
}

// beginAnew loses everything, as a store whose disk was lost.
func (f *fakeSessions) beginAnew(generation string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.told, f.generation = map[string]*sessionv1.Enforcement{}, 0, generation
}

func (f *fakeSessions) answers(answer func(ctx context.Context, account string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeSessions) of(account string) *sessionv1.Enforcement {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[account]
}

// timesAsked says how often the reconciler looked whether the store is another one.
func (f *fakeSessions) timesAsked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeSessions) counts() (known, told int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.known), f.told
}
