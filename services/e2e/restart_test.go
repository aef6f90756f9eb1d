package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

const (
	// staffSize is more agents than can set up while the suite is restarted.
	staffSize = 600
	// restartGrace ends in the middle of the restarts.
	restartGrace = 3 * time.Second
	// rounds is how often each process is restarted.
	rounds = 2
	// stopLimit is the default bound of a stop, and a little for the program to end.
	stopLimit = 27 * time.Second
	// answerLimit is longer than any call may take.
	answerLimit = 30 * time.Second
	// mailTime makes the mails last for as long as the restarts do.
	mailTime = 40 * time.Millisecond
)

// Each of the five processes is restarted in turn, twice, as a deployment does,
// while people sign in, sessions are verified, factors and policies are changed,
// and a crowd is told. What was answered with OK stands, everybody is told exactly
// once, no session ends early or late, and whatever fails does so with UNAVAILABLE.
func TestRestart_eachProcessUnderLoad(t *testing.T) {
	p := startProcesses(t)
	v := victim{sink: p.sink, running: p.running}
	account := "crowd-" + strings.ToLower(rand.Text()[:10])
	addresses := v.gather(t, account)
	var tokens []string
	for _, email := range addresses[crowd-3:] {
		tokens = append(tokens, v.signIn(t, account, email, sessionv1.Client_WEB))
	}
	l := newLoad(t, v)
	v.sink.Default(mailsink.Slow(mailsink.BeforeStore, mailTime))
	deadline := v.enforce(t, account, restartGrace)
	var watches sync.WaitGroup
	ends := make([]error, len(tokens))
	for i, token := range tokens {
		watches.Go(func() { ends[i] = v.watch(t.Context(), token, deadline) })
	}

	l.start()
	for round := range rounds {
		for _, name := range services() {
			l.awaitProgress(t)
			began := time.Now()
			require.Zero(t, p.children[name].Stop(t, stopLimit), "%s, round %d: %s", name, round, p.children[name].Log())
			stopped := time.Now()
			p.children[name].Start(t)
			awaitReady(t, v.baseURL)
			t.Logf("%s stopped in %s, was back in %s", name,
				stopped.Sub(began).Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
		}
	}
	l.awaitProgress(t)
	require.Less(t, len(v.mailsByRecipient(t, "ENFORCEMENT_ENABLED")), crowd+1, "the mails were out before the restarts: this test has shown nothing")
	require.NoError(t, l.stop())

	v.awaitRollout(t, account)
	l.check(t)
	watches.Wait()
	for _, err := range ends {
		require.NoError(t, err)
	}
	counts := v.mailsByRecipient(t, "ENFORCEMENT_ENABLED")
	for _, email := range append(addresses, "owner@"+account+".example") {
		require.Equal(t, 1, counts[email], email)
	}
	require.Len(t, counts, crowd+1, "somebody was told who is not in the account")
}

// A second signal ends a process that is still waiting for its callers to leave.
func TestStop_readinessFirstAndASecondSignalEndsAtOnce(t *testing.T) {
	rest := freeAddr(t)
	child := testkit.StartProcess(t, binary(t, "allinone"),
		"TWOFOLD_HTTP_ADDR="+rest, "TWOFOLD_GRPC_ADDR="+freeAddr(t), "TWOFOLD_DATA_DIR="+t.TempDir(), "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_SHUTDOWN_DELAY=10m")
	awaitReady(t, "http://"+rest)
	child.Terminate(t)
	answer := func(path string) int {
		code, err := getStatus(t.Context(), "http://"+rest+path, "")
		require.NoError(t, err, "it still serves")
		return code
	}
	require.Eventually(t, func() bool { return answer("/readyz") == http.StatusServiceUnavailable }, answerLimit, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, answer("/healthz"))
	require.NotZero(t, child.Stop(t, stopLimit), "it was cut off")
}

// load is what goes on while the suite is restarted, in an account of its own.
type load struct {
	v       victim
	account string
	staff   []string

	over    chan struct{}
	running sync.WaitGroup
	parts   []*part

	// What was answered with OK. Each belongs to one part until that has ended.
	tokens          []string
	tried, enrolled []string
	policy          time.Duration // the last grace period that was saved
	policyTried     time.Duration
}

// part is one kind of call, made again and again.
type part struct {
	name          string
	every         time.Duration
	call          func(ctx context.Context) error
	done, refused atomic.Int64
	failure       atomic.Pointer[error]
}

// failed returns the answer that the part must not have got.
func (p *part) failed() error {
	if err := p.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func newLoad(t *testing.T, v victim) *load {
	t.Helper()
	l := &load{v: v, account: "staff-" + strings.ToLower(rand.Text()[:10]), over: make(chan struct{}), policy: 100 * time.Hour}
	_, err := authv1.NewAccountServiceClient(v.connect("auth")).CreateAccount(bearer(t.Context(), operatorToken), &authv1.CreateAccountRequest{
		AccountId: l.account, DisplayName: "Staff",
		Owner: &authv1.CreateAccountRequest_Owner{Email: "owner@" + l.account + ".example", DisplayName: "Owner", Password: password},
	})
	require.NoError(t, err)
	request := &authv1.ImportAgentsRequest{Parent: "accounts/" + l.account}
	for i := range staffSize {
		l.staff = append(l.staff, fmt.Sprintf("agent-%03d@%s.example", i, l.account))
		request.Agents = append(request.Agents, &authv1.ImportAgentsRequest_Row{
			Email: l.staff[i], DisplayName: "Agent", PasswordHash: passwordHash,
		})
	}
	_, err = authv1.NewAgentServiceClient(v.connect("auth")).ImportAgents(bearer(t.Context(), operatorToken), request)
	require.NoError(t, err)
	l.tokens = []string{v.signIn(t, l.account, l.staff[staffSize-1], sessionv1.Client_WEB)}
	token := l.tokens[0]
	l.parts = []*part{
		{name: "sign-ins", every: 200 * time.Millisecond, call: l.signIn},
		{name: "verdicts", every: 10 * time.Millisecond, call: func(ctx context.Context) error { return l.validate(ctx, token) }},
		{name: "factors", every: 200 * time.Millisecond, call: l.setUp},
		{name: "policies", every: 100 * time.Millisecond, call: l.savePolicy},
		{name: "REST", every: 20 * time.Millisecond, call: l.readOverREST},
		{name: "watches", every: 20 * time.Millisecond, call: l.watchRollout},
	}
	return l
}

// start begins all parts, which end at stop or at the first answer they must not get.
func (l *load) start() {
	for _, p := range l.parts {
		l.running.Go(func() {
			tick := time.NewTicker(p.every)
			defer tick.Stop()
			for {
				select {
				case <-l.over:
					return
				case <-tick.C:
				}
				ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
				err := p.call(ctx)
				cancel()
				switch {
				case err == nil:
					p.done.Add(1)
				case status.Code(err) == codes.Unavailable:
					p.refused.Add(1)
				default:
					err = fmt.Errorf("%s: %w", p.name, err)
					p.failure.Store(&err)
					return
				}
			}
		})
	}
}

// awaitProgress waits until every part was answered since.
func (l *load) awaitProgress(t *testing.T) {
	t.Helper()
	for _, p := range l.parts {
		before := p.done.Load()
		require.Eventually(t, func() bool { return p.done.Load() > before || p.failed() != nil }, answerLimit, 5*time.Millisecond,
			"no answer any more: %s", p.name)
		require.NoError(t, p.failed())
	}
}

func (l *load) stop() error {
	close(l.over)
	l.running.Wait()
	var failed []error
	for _, p := range l.parts {
		failed = append(failed, p.failed())
	}
	return errors.Join(failed...)
}

func (l *load) signIn(ctx context.Context) error {
	session, err := l.enter(ctx, l.staff[staffSize-1])
	if err == nil {
		l.tokens = append(l.tokens, session.GetToken())
	}
	return err
}

func (l *load) enter(ctx context.Context, email string) (*sessionv1.Session, error) {
	response, err := authv1.NewSignInServiceClient(l.v.connect("auth")).SignIn(ctx, &authv1.SignInRequest{
		Account: l.account, Email: email, Password: password, Client: sessionv1.Client_WEB,
	})
	return response.GetSession(), err
}

func (l *load) validate(ctx context.Context, token string) error {
	_, err := sessionv1.NewSessionServiceClient(l.v.connect("session")).ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: token})
	return err
}

// setUp sets the next agent's factor up. An agent whose last call failed may have
// one or not; which of the two is looked at in the end.
func (l *load) setUp(ctx context.Context) error {
	email := l.staff[len(l.tried)]
	session, err := l.enter(ctx, email)
	if err != nil {
		return err
	}
	ctx = bearer(ctx, session.GetToken())
	profile := authv1.NewProfileServiceClient(l.v.connect("auth"))
	begun, err := profile.BeginEnrollment(ctx, &authv1.BeginEnrollmentRequest{})
	if err != nil {
		return err
	}
	code, err := totp.GenerateCode(begun.GetEnrollment().GetSecret(), time.Now())
	if err != nil {
		return err
	}
	l.tried = append(l.tried, email)
	_, err = profile.ConfirmEnrollment(ctx, &authv1.ConfirmEnrollmentRequest{
		EnrollmentId: begun.GetEnrollment().GetEnrollmentId(), Code: code,
	})
	if err == nil {
		l.enrolled = append(l.enrolled, email)
	}
	return err
}

// savePolicy saves a grace period longer than the last one.
func (l *load) savePolicy(ctx context.Context) error {
	l.policyTried = max(l.policyTried, l.policy) + time.Minute
	_, err := policyv1.NewPolicyServiceClient(l.v.connect("policy")).UpdateMfaPolicy(bearer(ctx, operatorToken), &policyv1.UpdateMfaPolicyRequest{
		MfaPolicy:  &policyv1.MfaPolicy{Name: "accounts/" + l.account + "/mfaPolicy", GracePeriod: durationpb.New(l.policyTried)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"grace_period"}},
	})
	if err == nil {
		l.policy = l.policyTried
	}
	return err
}

// readOverREST reads a policy. A gateway that goes away refuses connections, and
// ends those that it has not accepted or that carry no call.
func (l *load) readOverREST(ctx context.Context) error {
	code, err := getStatus(ctx, l.v.baseURL+"/v1/accounts/"+l.account+"/mfaPolicy", operatorToken)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), code == http.StatusServiceUnavailable:
		return status.Error(codes.Unavailable, "REST is away")
	case err != nil:
		return err
	case code != http.StatusOK:
		return fmt.Errorf("REST answers %d", code)
	}
	return nil
}

// watchRollout watches for a moment.
func (l *load) watchRollout(ctx context.Context) error {
	ctx, cancel := context.WithCancel(bearer(ctx, operatorToken))
	defer cancel()
	stream, err := rolloutv1.NewRolloutServiceClient(l.v.connect("gateway")).WatchRollout(ctx,
		&rolloutv1.WatchRolloutRequest{Name: "accounts/" + l.account + "/rollout"})
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// check compares what was answered with what is.
func (l *load) check(t *testing.T) {
	t.Helper()
	for _, p := range l.parts {
		t.Logf("%s: %d answered, %d refused", p.name, p.done.Load(), p.refused.Load())
	}
	for _, token := range l.tokens {
		require.NoError(t, l.validate(t.Context(), token), "a session that was handed out is gone")
	}
	saved, err := policyv1.NewPolicyServiceClient(l.v.connect("policy")).GetMfaPolicy(bearer(t.Context(), operatorToken),
		&policyv1.GetMfaPolicyRequest{Name: "accounts/" + l.account + "/mfaPolicy"})
	require.NoError(t, err)
	require.GreaterOrEqual(t, saved.GetMfaPolicy().GetGracePeriod().AsDuration(), l.policy)

	acknowledged := map[string]bool{}
	for _, email := range l.enrolled {
		acknowledged[email] = true
	}
	want := map[string]int{}
	for _, email := range l.tried {
		session, err := l.enter(t.Context(), email)
		require.NoError(t, err)
		if session == nil { // asked for a second factor
			want[email] = 1
		}
		require.True(t, session == nil || !acknowledged[email], "%s has lost a factor that was confirmed", email)
	}
	// When everything is sent and nothing waits, nothing more can come.
	var sent int32
	require.Eventually(t, func() bool { sent = l.notices(t, "state=SENT"); return sent == l.notices(t, "") }, recovery, 100*time.Millisecond)
	require.EqualValues(t, len(want), sent)
	got := l.v.mailsByRecipient(t, "FACTOR_ADDED")
	require.Equal(t, want, got)
}

// notices counts an account's notices about factors.
func (l *load) notices(t *testing.T, filter string) int32 {
	t.Helper()
	filter = strings.TrimPrefix(filter+" AND kind=FACTOR_ADDED", " AND ")
	response, err := notifierv1.NewNoticeServiceClient(l.v.connect("notifier")).ListNotices(bearer(t.Context(), operatorToken),
		&notifierv1.ListNoticesRequest{Parent: "accounts/" + l.account, Filter: filter})
	require.NoError(t, err)
	return response.GetTotalSize()
}

// mailsByRecipient counts the mails of a kind.
func (v victim) mailsByRecipient(t *testing.T, kind string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, m := range v.sink.Messages() {
		mail, err := readMail(m.Raw)
		require.NoError(t, err)
		if mail.Kind == kind {
			require.Len(t, m.To, 1)
			counts[m.To[0]]++
		}
	}
	return counts
}

// getStatus returns the status of a page.
func getStatus(ctx context.Context, url, token string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}
