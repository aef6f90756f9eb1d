package auth_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/grpctest"
)

const (
	operatorToken = "operator-token-of-the-tests"
	goodPassword  = "correct horse battery"
)

// suite is the auth service with a real database, stream and chain of calls. Its
// neighbors, policy and session, are fakes behind real servers.
type suite struct {
	t        *testing.T
	url      string
	db       *sqldb.DB
	nats     *testkit.NATSServer
	keys     *keyring.Keyring
	network  *grpctest.Network
	policies *fakePolicies
	sessions *fakeSessions
	config   auth.Config
	hashing  password.Config
	clock    *clock
	log      slog.Handler
}

func newSuite(t *testing.T, url string) *suite {
	t.Helper()
	keys, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: []byte("a key of the auth service, for testing only")[:32]})
	require.NoError(t, err)
	db, err := sqldb.Open(t.Context(), url, auth.Schema)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), auth.Migrations()))
	return &suite{
		t: t, url: url, db: db, nats: testkit.NATS(t), keys: keys, network: grpctest.New(t),
		policies: newFakePolicies(), sessions: newFakeSessions(), config: auth.DefaultConfig(), clock: &clock{}, log: slog.DiscardHandler,
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
	service *auth.Service
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

	policies := s.serve("policy", func(r grpc.ServiceRegistrar) { policyv1.RegisterPolicyServiceServer(r, s.policies) })
	sessions := s.serve("session", func(r grpc.ServiceRegistrar) { sessionv1.RegisterSessionServiceServer(r, s.sessions) })
	service, err := auth.New(s.config, auth.Deps{
		DB: s.db, Bus: bus, Keys: s.keys,
		Policies:  policyv1.NewPolicyServiceClient(policies.Conn("auth")),
		Sessions:  sessionv1.NewSessionServiceClient(sessions.Conn("auth")),
		Passwords: password.New(s.hashing), Now: s.clock.Now,
		Log: slog.New(s.log), Metrics: metrics,
	})
	require.NoError(s.t, err)
	p := &process{s: s, service: service, metrics: metrics}
	p.server = s.serve("auth", service.Register)

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
		VerifySession: s.sessions.verify, OperatorToken: operatorToken, IsUnavailable: sqldb.IsUnavailable,
		Log: slog.New(s.log),
	})
}

// conn connects to the service as the holder of an identity.
func (p *process) conn(identity string) *grpc.ClientConn {
	return p.server.Conn(identity)
}

// accounts and agents return clients whose callers are told apart by their
// bearer tokens.
func (p *process) accounts() authv1.AccountServiceClient {
	return authv1.NewAccountServiceClient(p.conn(""))
}
func (p *process) agents() authv1.AgentServiceClient { return authv1.NewAgentServiceClient(p.conn("")) }

// agentsFor returns a client of a service by identity.
func (p *process) agentsFor(identity string) authv1.AgentServiceClient {
	return authv1.NewAgentServiceClient(p.conn(identity))
}

// with returns a context for a call with a bearer token.
func with(ctx context.Context, token string) context.Context { return grpctest.Bearer(ctx, token) }

// asOperator returns a context for a call by the operator.
func asOperator(ctx context.Context) context.Context { return with(ctx, operatorToken) }

// as returns a context for a call by an agent, in the role they have.
func as(ctx context.Context, a *authv1.Agent) context.Context {
	return with(ctx, token(a.GetName(), a.GetRole()))
}

// token is the bearer token of a person; what it says is believed.
func token(agentName string, role authv1.Agent_Role) string {
	return fmt.Sprintf("%s:%s:AAL2", agentName, role)
}

// account makes an account and returns its owner.
func (p *process) account(id string) *authv1.Agent {
	p.s.t.Helper()
	ctx := asOperator(p.s.t.Context())
	made, err := p.accounts().CreateAccount(ctx, &authv1.CreateAccountRequest{
		AccountId: id, DisplayName: "Account " + id,
		Owner: &authv1.CreateAccountRequest_Owner{Email: "owner@example.com", DisplayName: "Olga Owner"},
	})
	require.NoError(p.s.t, err)
	return p.get(made.GetAccount().GetOwner())
}

// get returns an agent as the operator sees it.
func (p *process) get(name string) *authv1.Agent {
	p.s.t.Helper()
	got, err := p.agents().GetAgent(asOperator(p.s.t.Context()), &authv1.GetAgentRequest{Name: name})
	require.NoError(p.s.t, err)
	return got.GetAgent()
}

// agent makes an agent of acme with a role; the address says who it is.
func (p *process) agent(email string, role authv1.Agent_Role) *authv1.Agent {
	p.s.t.Helper()
	made, err := p.agents().CreateAgent(asOperator(p.s.t.Context()), &authv1.CreateAgentRequest{
		Parent: "accounts/acme", Email: email, DisplayName: "Named " + email, Role: role,
	})
	require.NoError(p.s.t, err)
	return made.GetAgent()
}

// exec changes rows behind the service's back.
func (s *suite) exec(query string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), query, args...)
	require.NoError(s.t, err)
}

// number returns the one number a query selects.
func (s *suite) number(query string, args ...any) int64 {
	s.t.Helper()
	var n int64
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), query, args...).Scan(&n))
	return n
}

// stream returns every event of the stream, in its order.
func (s *suite) stream() []jetstream.Msg {
	s.t.Helper()
	return s.nats.Messages(s.t, events.Stream)
}

// published waits until the stream has n events, the invitations of newcomers not
// counted, and returns them.
func (s *suite) published(n int) []jetstream.Msg {
	s.t.Helper()
	var all []jetstream.Msg
	require.Eventually(s.t, func() bool {
		all = slices.DeleteFunc(s.stream(), func(msg jetstream.Msg) bool { return isEvent(msg, &authv1.AgentInvited{}) })
		return len(all) >= n
	}, 20*time.Second, 20*time.Millisecond)
	require.Len(s.t, all, n)
	return all
}

func isEvent(msg jetstream.Msg, of proto.Message) bool {
	return msg.Headers().Get("ce-type") == string(of.ProtoReflect().Descriptor().FullName())
}

// eventOf decodes an event of the stream.
func eventOf[M proto.Message](t *testing.T, msg jetstream.Msg, into M) M {
	t.Helper()
	require.Equal(t, string(into.ProtoReflect().Descriptor().FullName()), msg.Headers().Get("ce-type"))
	require.NoError(t, proto.Unmarshal(msg.Data(), into))
	return into
}

func requireSame(t *testing.T, want, got proto.Message) {
	t.Helper()
	require.Truef(t, proto.Equal(want, got), "want %v\ngot  %v", want, got)
}

var errDown = errs.Unavailable(fmt.Errorf("switched off by the test"))

// fakePolicies is the part of the policy service that auth calls.
type fakePolicies struct {
	policyv1.UnimplementedPolicyServiceServer

	mu    sync.Mutex
	known map[string]enforcement.Policy // by account
	down  bool
}

func newFakePolicies() *fakePolicies { return &fakePolicies{known: map[string]enforcement.Policy{}} }

func (f *fakePolicies) CreateMfaPolicy(
	_ context.Context, req *policyv1.CreateMfaPolicyRequest,
) (*policyv1.CreateMfaPolicyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	if _, ok := f.known[req.GetAccount()]; !ok {
		f.known[req.GetAccount()] = enforcement.Policy{
			Settings: enforcement.Settings{GracePeriod: 168 * time.Hour}, Revision: 1,
		}
	}
	return &policyv1.CreateMfaPolicyResponse{}, nil
}

func (f *fakePolicies) GetMfaPolicy(
	_ context.Context, req *policyv1.GetMfaPolicyRequest,
) (*policyv1.GetMfaPolicyResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	p, ok := f.known[strings.TrimSuffix(strings.TrimPrefix(req.GetName(), "accounts/"), "/mfaPolicy")]
	if !ok {
		return nil, errs.New(codes.NotFound, errs.ReasonResourceNotFound, "There is no such resource.")
	}
	shown := &policyv1.MfaPolicy{
		Name: req.GetName(), Enforced: p.Enforced, GracePeriod: durationpb.New(p.GracePeriod),
		ApplyToSso: p.ApplyToSSO, Revision: p.Revision,
	}
	if p.Enforced {
		shown.EnforceTime = timestamppb.New(p.EnforceTime)
		shown.SessionRevokeTime = timestamppb.New(p.SessionRevokeTime())
	}
	return &policyv1.GetMfaPolicyResponse{MfaPolicy: shown}, nil
}

// set saves a policy of acme.
func (f *fakePolicies) set(settings enforcement.Settings, enforceTime time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known["acme"] = enforcement.Policy{
		Settings: settings, Revision: f.known["acme"].Revision + 1, EnforceTime: enforceTime,
	}
}

// switchOff makes every call fail, or no longer.
func (f *fakePolicies) switchOff(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// forget loses an account's policy.
func (f *fakePolicies) forget(account string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.known, account)
}

func (f *fakePolicies) has(account string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.known[account]
	return ok
}
