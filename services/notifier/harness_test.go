package notifier_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
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
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
	"github.com/twofold-auth/twofold/services/notifier"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

const (
	patient = 60 * time.Second
	often   = 10 * time.Millisecond
	week    = 7 * 24 * time.Hour

	operatorToken = "operator-token-of-the-tests"

	// The bearer tokens of people: account and role.
	admin       = "acme:ADMIN"
	plainAgent  = "acme:AGENT"
	globexAdmin = "globex:ADMIN"
)

// began is when the enforcements of the tests begin.
var began = time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)

// suite is the notifier with its real neighbors, but for auth, which is a fake
// behind a real server, and the mail server, which misbehaves on demand.
type suite struct {
	t       *testing.T
	url     string
	db      *sqldb.DB // the tests' own
	nats    *testkit.NATSServer
	bus     *events.Bus // the other services'
	keys    *keyring.Keyring
	network *grpctest.Network
	auth    *fakeAuth
	sink    *mailsink.Server
	config  notifier.Config
	pool    smtppool.Config
	// published is the place of the last event in the stream.
	published uint64
}

func newSuite(t *testing.T, url string) *suite {
	t.Helper()
	keys, err := keyring.New("k1", keyring.Key{Name: "k1", Secret: []byte("a page token key only for testing")[:32]})
	require.NoError(t, err)
	db, err := sqldb.Open(t.Context(), url, notifier.Schema)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), notifier.Migrations()))
	s := &suite{
		t: t, url: url, db: db, nats: testkit.NATS(t), keys: keys, network: grpctest.New(t),
		auth: newFakeAuth(), sink: mailsink.Start(t, mailsink.Options{}),
		config: notifier.Config{
			PublicURL: "https://twofold.example", MailFrom: "Twofold <no-reply@twofold.example>",
			Lease: 2 * time.Second, MinRetry: 20 * time.Millisecond, MaxRetry: 200 * time.Millisecond,
			MinReconnect: 20 * time.Millisecond, MaxReconnect: 200 * time.Millisecond,
		},
		pool: smtppool.Config{CautionTime: 50 * time.Millisecond},
	}
	s.bus = s.newBus(prometheus.NewRegistry())
	require.NoError(t, s.bus.EnsureStreams(t.Context()))
	return s
}

// onBoth runs a test on each database the service supports.
func onBoth(t *testing.T, test func(t *testing.T, s *suite)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newSuite(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, newSuite(t, testkit.Postgres(t))) })
}

func (s *suite) newBus(metrics prometheus.Registerer) *events.Bus {
	s.t.Helper()
	nc, err := nats.Connect(s.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	bus, err := events.NewBus(nc, events.Options{Log: slog.New(slog.DiscardHandler), Metrics: metrics})
	require.NoError(s.t, err)
	return bus
}

// process is one running copy of the service.
type process struct {
	s       *suite
	server  *grpctest.Server
	metrics *prometheus.Registry
	// stop ends its work and waits for that; kill takes the database away first, so
	// that nothing of what it was doing is stored, as when it had died then.
	stop, kill func()
}

// start starts a copy.
func (s *suite) start() *process {
	s.t.Helper()
	metrics := prometheus.NewRegistry()
	auth := s.serve("auth", func(r grpc.ServiceRegistrar) {
		authv1.RegisterAgentServiceServer(r, s.auth)
		authv1.RegisterAccountServiceServer(r, accounts{auth: s.auth})
	})
	conn := auth.Conn("notifier")
	poolConfig := s.pool
	poolConfig.URL, poolConfig.Now = s.sink.URL(), time.Now
	if poolConfig.Size == 0 {
		poolConfig.Size = max(s.config.Workers, 8)
	}
	pool, err := smtppool.New(poolConfig)
	require.NoError(s.t, err)
	s.t.Cleanup(pool.Close)
	db, err := sqldb.Open(s.t.Context(), s.url, notifier.Schema)
	require.NoError(s.t, err)
	closeDB := sync.OnceFunc(func() { require.NoError(s.t, db.Close()) })
	s.t.Cleanup(closeDB)
	service, err := notifier.New(s.config, notifier.Deps{
		DB: db, Bus: s.newBus(metrics), Agents: authv1.NewAgentServiceClient(conn), Accounts: authv1.NewAccountServiceClient(conn),
		Transport: pool, PageTokens: pagetoken.New(s.keys), Log: slog.New(slog.DiscardHandler), Metrics: metrics, Now: time.Now,
	})
	require.NoError(s.t, err)
	require.NoError(s.t, service.Ready(s.t.Context()))
	p := &process{s: s, metrics: metrics, server: s.serve("notifier", service.Register)}

	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := service.Run(ctx); err != nil {
			s.t.Errorf("run: %v", err)
		}
	})
	p.stop = func() {
		cancel()
		running.Wait()
	}
	p.kill = func() {
		closeDB()
		p.stop()
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

// as returns a client of a service; "" is for people, who are told apart by their
// bearer tokens.
func (p *process) as(identity string) notifierv1.NoticeServiceClient {
	return notifierv1.NewNoticeServiceClient(p.server.Conn(identity))
}

// with returns a context for a call with a bearer token.
func with(ctx context.Context, token string) context.Context { return grpctest.Bearer(ctx, token) }

func verify(_ context.Context, token string) (*authz.Person, error) {
	parts := strings.Split(token, ":")
	if len(parts) != 2 {
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "Unknown.")
	}
	return &authz.Person{
		Account: parts[0], Agent: agentID(0), SessionName: "accounts/" + parts[0] + "/agents/" + agentID(0) + "/sessions/s",
		Role: sessionv1.Session_Role(sessionv1.Session_Role_value[parts[1]]), AssuranceLevel: sessionv1.Session_AAL2,
	}, nil
}

// agentID is the bare id of the n-th agent.
func agentID(n int) string { return fmt.Sprintf("01920000-0000-7000-8000-%012d", n) }

func agentName(account string, n int) string {
	return "accounts/" + account + "/agents/" + agentID(n)
}

func address(account string, n int) string { return fmt.Sprintf("agent-%05d@%s.example", n, account) }

// fakeAuth is the part of the auth service that the notifier asks.
type fakeAuth struct {
	authv1.UnimplementedAgentServiceServer

	mu     sync.Mutex
	agents map[string]*authv1.Agent // by resource name
	sorted map[string][]string      // resource names by account
	// answer is asked before anything else; nil is yes.
	answer func(ctx context.Context, method string) error
	pages  int
	links  []*authv1.IssueLinkRequest
}

// accounts is its other service.
type accounts struct {
	authv1.UnimplementedAccountServiceServer
	auth *fakeAuth
}

func (a accounts) GetAccount(ctx context.Context, req *authv1.GetAccountRequest) (*authv1.GetAccountResponse, error) {
	if err := a.auth.ask(ctx, "GetAccount"); err != nil {
		return nil, err
	}
	return &authv1.GetAccountResponse{Account: &authv1.Account{
		Name: req.GetName(), DisplayName: strings.ToUpper(strings.TrimPrefix(req.GetName(), "accounts/")) + " Inc",
	}}, nil
}

func newFakeAuth() *fakeAuth {
	return &fakeAuth{agents: map[string]*authv1.Agent{}, sorted: map[string][]string{}}
}

// hire makes n agents without a second factor, made a day before began. The first
// is called Grace Hopper, and is the admin.
func (f *fakeAuth) hire(account string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		name := fmt.Sprintf("Person N%05dX", i)
		if i == 0 {
			name = "Grace Hopper"
		}
		f.agents[agentName(account, i)] = &authv1.Agent{
			Name: agentName(account, i), Email: address(account, i), DisplayName: name, State: authv1.Agent_ACTIVE,
			MfaState: authv1.Agent_NOT_SET_UP, CreateTime: timestamppb.New(began.Add(-24 * time.Hour)),
		}
		f.sorted[account] = append(f.sorted[account], agentName(account, i))
	}
	slices.Sort(f.sorted[account])
	f.sorted[account] = slices.Compact(f.sorted[account])
}

// change changes an agent.
func (f *fakeAuth) change(account string, n int, how func(a *authv1.Agent)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := proto.CloneOf(f.agents[agentName(account, n)])
	how(next)
	f.agents[agentName(account, n)] = next
}

func setUp(a *authv1.Agent) { a.MfaState = authv1.Agent_SET_UP }

func (f *fakeAuth) answers(answer func(ctx context.Context, method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeAuth) ask(ctx context.Context, method string) error {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, method)
}

func (f *fakeAuth) BatchGetAgents(ctx context.Context, req *authv1.BatchGetAgentsRequest) (*authv1.BatchGetAgentsResponse, error) {
	if err := f.ask(ctx, "BatchGetAgents"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &authv1.BatchGetAgentsResponse{}
	for _, name := range req.GetNames() {
		if a := f.agents[name]; a != nil {
			resp.Agents = append(resp.Agents, a)
		}
	}
	return resp, nil
}

func (f *fakeAuth) ListAgentsToNotify(ctx context.Context, req *authv1.ListAgentsToNotifyRequest) (*authv1.ListAgentsToNotifyResponse, error) {
	if err := f.ask(ctx, "ListAgentsToNotify"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pages++
	after := ""
	if req.GetAfterAgentId() != "" {
		after = "accounts/" + req.GetAccount() + "/agents/" + req.GetAfterAgentId()
	}
	names := f.sorted[req.GetAccount()]
	from, found := slices.BinarySearch(names, after)
	if found {
		from++
	}
	resp := &authv1.ListAgentsToNotifyResponse{}
	for _, name := range names[from:] {
		a := f.agents[name]
		if a.GetState() == authv1.Agent_DEACTIVATED || a.GetMfaState() != authv1.Agent_NOT_SET_UP ||
			!a.GetCreateTime().AsTime().Before(req.GetEnforceTime().AsTime()) {
			continue
		}
		resp.Recipients = append(resp.Recipients, &authv1.ListAgentsToNotifyResponse_Recipient{
			Agent: name, Email: a.GetEmail(), DisplayName: a.GetDisplayName(),
		})
		if len(resp.GetRecipients()) == int(req.GetPageSize()) {
			break
		}
	}
	return resp, nil
}

// policy is an account's policy as an event has it.
func policy(account string, revision int64, enforceTime time.Time, grace time.Duration) *policyv1.MfaPolicy {
	p := &policyv1.MfaPolicy{
		Name: "accounts/" + account + "/mfaPolicy", Revision: revision, GracePeriod: durationpb.New(grace),
		UpdateTime: timestamppb.New(began.Add(time.Duration(revision) * time.Second)),
	}
	if !enforceTime.IsZero() {
		p.Enforced, p.EnforceTime = true, timestamppb.New(enforceTime)
		p.SessionRevokeTime = timestamppb.New(enforceTime.Add(grace))
	}
	return p
}

func grace(account string) *eventv1.Actor {
	return &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: agentName(account, 0)}
}

func enabled(account string, revision int64, at time.Time, period time.Duration) events.Event {
	return eventOf(account, revision, &policyv1.EnforcementEnabled{
		Account: account, Policy: policy(account, revision, at, period), Actor: grace(account),
	})
}

func updated(account string, revision int64, at time.Time, period time.Duration) events.Event {
	return eventOf(account, revision, &policyv1.EnforcementUpdated{
		Account: account, Policy: policy(account, revision, at, period), Actor: grace(account),
	})
}

func disabled(account string, revision int64) events.Event {
	return eventOf(account, revision, &policyv1.EnforcementDisabled{
		Account: account, Policy: policy(account, revision, time.Time{}, week), Actor: grace(account),
		PreviousEnforceTime: timestamppb.New(began),
	})
}

func eventOf(account string, version int64, payload proto.Message) events.Event {
	return events.Event{
		ID: uuid.Must(uuid.NewV7()).String(), Source: "twofold/test", Subject: "accounts/" + account, Account: account,
		Version: version, Time: began, Payload: payload,
	}
}

// publish publishes events in their order. The same event again is another message.
func (s *suite) publish(all ...events.Event) {
	s.t.Helper()
	for _, e := range all {
		seq, _, err := s.bus.Publish(s.t.Context(), e)
		require.NoError(s.t, err)
		s.published = max(s.published, seq)
	}
}

// settled waits until all events are consumed, all fan-outs done and no notice
// waits.
func (s *suite) settled() {
	s.t.Helper()
	s.settledWithin(patient)
}

func (s *suite) settledWithin(limit time.Duration) {
	s.t.Helper()
	var position events.Position
	var waiting int
	require.Eventually(s.t, func() bool {
		var err error
		if position, err = s.bus.ConsumerPosition(s.t.Context(), "notifier"); err != nil || position.AckFloor < s.published || !position.CaughtUp() {
			return false
		}
		waiting = s.count(`SELECT (SELECT count(*) FROM notices WHERE due_time IS NOT NULL) + (SELECT count(*) FROM fan_outs WHERE due_time IS NOT NULL)`)
		return waiting == 0
	}, limit, 5*often)
}

// count reads a number from the service's database.
func (s *suite) count(query string, args ...any) int {
	s.t.Helper()
	var n int
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), query, args...).Scan(&n))
	return n
}

// inState counts the notices of a kind in a state.
func (s *suite) inState(kind, state string) int {
	s.t.Helper()
	return s.count(`SELECT count(*) FROM notices WHERE kind = ? AND state = ?`, kind, state)
}

// mailsOf counts the mails of a kind that the mail server took for an agent.
func (s *suite) mailsOf(kind, address string) int {
	n := 0
	for _, m := range s.sink.To(address) {
		if strings.Contains(string(m.Raw), "\r\nTwofold-Notice: "+kind+"\r\n") {
			n++
		}
	}
	return n
}
