package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

const (
	// crowd is how many agents are to be told, importSize how many an import takes.
	crowd, importSize = 2_000, 1_000
	// kills is how often the suite is killed meanwhile.
	kills = 5
	// slowness of the mail server leaves time for that.
	slowness = 25 * time.Millisecond
	// killGrace is longer than all kills take, so the sessions are watched through
	// them.
	killGrace = 20 * time.Second
	// recovery is how long everything may take after the last kill: leases of
	// killed workers have to run out.
	recovery = 75 * time.Second
)

// victim is a suite that is killed while it works.
type victim struct {
	running
	sink *mailsink.Server
	// kill ends processes with SIGKILL and starts them again.
	kill func(round int)
}

// The whole suite in one process, on its own SQLite and JetStream on disk. Only
// sessions are on a Redis of its own: the embedded store forgets them when it is
// killed, as it says.
func TestKill_allInOne(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	rest, rpc := freeAddr(t), freeAddr(t)
	child := testkit.StartProcess(t, binary(t, "allinone"),
		"TWOFOLD_HTTP_ADDR="+rest, "TWOFOLD_GRPC_ADDR="+rpc, "TWOFOLD_DATA_DIR="+t.TempDir(), "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_REDIS_URL="+testkit.Redis(t).URL(), "TWOFOLD_SMTP_URL="+sink.URL(),
		"TWOFOLD_OPERATOR_TOKEN="+operatorToken, "TWOFOLD_LOG_LEVEL=warn")
	conn := dial(t, rpc, nil, "")
	v := victim{sink: sink, running: running{
		baseURL: "http://" + rest, mail: mailsTo(sink), connect: func(string) grpc.ClientConnInterface { return conn },
	}}
	v.kill = func(int) {
		child.Kill(t)
		child.Start(t)
		awaitReady(t, v.baseURL)
	}
	awaitReady(t, v.baseURL)
	v.survive(t)
}

// Each of the five processes in turn.
func TestKill_eachProcess(t *testing.T) {
	p := startProcesses(t)
	v := victim{sink: p.sink, running: p.running}
	v.kill = func(round int) {
		child := p.children[[]string{"notifier", "auth", "session", "policy", "gateway"}[round]]
		child.Kill(t)
		child.Start(t)
		awaitReady(t, v.baseURL)
	}
	v.survive(t)
}

// survive tells a crowd while being killed. Nobody is missed, nobody is told three
// times (twice at most: when the cut came between a mail and its acknowledgment),
// those who have set up are not told, and no session ends early or late.
func (v victim) survive(t *testing.T) {
	t.Helper()
	account := "crowd-" + strings.ToLower(rand.Text()[:10])
	addresses := v.gather(t, account)
	enrolled := addresses[:3]
	for _, email := range enrolled {
		v.setUp(t, account, email)
		require.Eventually(t, func() bool { return len(v.sink.To(email)) == 1 }, time.Minute, 20*time.Millisecond)
	}
	var tokens []string
	for _, email := range addresses[crowd-5:] {
		for _, kind := range []sessionv1.Client_Kind{sessionv1.Client_WEB, sessionv1.Client_MOBILE} {
			tokens = append(tokens, v.signIn(t, account, email, kind))
		}
	}
	v.sink.Reset() // of the mails to those who have set up
	v.sink.Default(mailsink.Slow(mailsink.BeforeStore, slowness))

	deadline := v.enforce(t, account, killGrace)
	var watches sync.WaitGroup
	ends := make([]error, len(tokens))
	for i, token := range tokens {
		watches.Go(func() { ends[i] = v.watch(t.Context(), token, deadline) })
	}
	for round := range kills {
		v.awaitMails(t, (round+1)*crowd/(kills+2))
		v.kill(round)
	}
	require.Less(t, len(v.sink.Messages()), crowd, "the kills came after the mails: this test has shown nothing")
	t.Logf("killed %d times by the time %d mails were out, %s before the deadline",
		kills, len(v.sink.Messages()), time.Until(deadline).Round(time.Second))
	v.awaitRollout(t, account)
	watches.Wait()
	for _, err := range ends {
		require.NoError(t, err)
	}
	v.countMails(t, account, addresses, enrolled)
}

// gather makes an account with its crowd and returns the addresses.
func (v victim) gather(t *testing.T, account string) (addresses []string) {
	t.Helper()
	ctx := bearer(t.Context(), operatorToken)
	_, err := authv1.NewAccountServiceClient(v.connect("auth")).CreateAccount(ctx, &authv1.CreateAccountRequest{
		AccountId: account, DisplayName: "Crowd",
		Owner: &authv1.CreateAccountRequest_Owner{Email: "owner@" + account + ".example", DisplayName: "Owner", Password: password},
	})
	require.NoError(t, err)
	for len(addresses) < crowd {
		request := &authv1.ImportAgentsRequest{Parent: "accounts/" + account}
		for range importSize {
			email := fmt.Sprintf("agent-%04d@%s.example", len(addresses), account)
			addresses = append(addresses, email)
			request.Agents = append(request.Agents, &authv1.ImportAgentsRequest_Row{
				Email: email, DisplayName: "Agent", PasswordHash: passwordHash,
			})
		}
		response, err := authv1.NewAgentServiceClient(v.connect("auth")).ImportAgents(ctx, request)
		require.NoError(t, err)
		for _, result := range response.GetResults() {
			require.NotNil(t, result.GetAgent(), result.GetError())
		}
	}
	return addresses
}

// enforce switches enforcement on and returns when sessions end.
func (v victim) enforce(t *testing.T, account string, grace time.Duration) time.Time {
	t.Helper()
	response, err := policyv1.NewPolicyServiceClient(v.connect("policy")).UpdateMfaPolicy(bearer(t.Context(), operatorToken),
		&policyv1.UpdateMfaPolicyRequest{
			MfaPolicy: &policyv1.MfaPolicy{
				Name: "accounts/" + account + "/mfaPolicy", Enforced: true, GracePeriod: durationpb.New(grace),
			},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enforced", "grace_period"}},
		})
	require.NoError(t, err)
	return response.GetMfaPolicy().GetSessionRevokeTime().AsTime()
}

// watch asks a session again and again until it is over. While a process is
// killed there is no answer, which says nothing.
func (v victim) watch(ctx context.Context, token string, deadline time.Time) error {
	profile := authv1.NewProfileServiceClient(v.connect("auth"))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		asked := time.Now()
		_, err := profile.GetMe(bearer(ctx, token), &authv1.GetMeRequest{})
		answered := time.Now()
		switch {
		case err == nil && asked.After(deadline.Add(time.Second)):
			return fmt.Errorf("signed in %s after the deadline", asked.Sub(deadline))
		case status.Code(err) == codes.Unauthenticated:
			if reason := reasonOf(err); reason != "SESSION_ENDED_BY_MFA_POLICY" || answered.Before(deadline) {
				return fmt.Errorf("signed out with %s, %s after the deadline", reason, answered.Sub(deadline))
			}
			return nil
		case err != nil && status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// awaitMails waits until so many mails have arrived.
func (v victim) awaitMails(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	_, err := v.sink.WaitFor(ctx, n)
	require.NoError(t, err)
}

// awaitRollout waits until the suite says that it has nothing left to send.
func (v victim) awaitRollout(t *testing.T, account string) {
	t.Helper()
	var last string
	require.Eventuallyf(t, func() bool {
		response, err := rolloutv1.NewRolloutServiceClient(v.connect("gateway")).GetRollout(bearer(t.Context(), operatorToken),
			&rolloutv1.GetRolloutRequest{Name: "accounts/" + account + "/rollout"})
		if err != nil {
			last = err.Error()
			return false
		}
		n := response.GetRollout().GetNotices()
		last = n.String()
		return n.GetComplete() && n.GetQueued() == 0 && n.GetRetrying() == 0 && n.GetSent()+n.GetUnknown() == n.GetTotal()
	}, recovery, 200*time.Millisecond, "the rollout does not come to an end: %s", &last)
	t.Logf("in the end: %s", last)
}

// countMails checks who was told how often.
func (v victim) countMails(t *testing.T, account string, addresses, enrolled []string) {
	t.Helper()
	mails := map[string]int{}
	for _, m := range v.sink.Messages() {
		require.Len(t, m.To, 1)
		mail, err := readMail(m.Raw)
		require.NoError(t, err)
		require.Equal(t, "ENFORCEMENT_ENABLED", mail.Kind, m.To[0])
		mails[m.To[0]]++
	}
	addresses = append(addresses, "owner@"+account+".example") // has not set up either
	for _, email := range enrolled {
		require.Zero(t, mails[email], "%s has set up and was told", email)
	}
	twice := 0
	for _, email := range addresses[len(enrolled):] {
		require.NotZero(t, mails[email], "%s was missed", email)
		require.LessOrEqual(t, mails[email], 2, "%s was told too often", email)
		twice += mails[email] - 1
	}
	require.Len(t, mails, len(addresses)-len(enrolled), "somebody was told who is not in the account")
	t.Logf("%d agents told, %d of them twice", len(mails), twice)
}
