package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func idOf(a *authv1.Agent) string { return a.GetName()[strings.LastIndex(a.GetName(), "/")+1:] }

// factorTables is where everything about second factors is kept.
var factorTables = []string{"factors", "recovery_codes", "enrollments", "sign_ins", "factor_failures"}

// giveFactor gives an agent a factor and one of everything that goes with it.
func (s *suite) giveFactor(a *authv1.Agent) {
	s.t.Helper()
	id := idOf(a)
	s.exec(`INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time) VALUES (?, ?, 'TOTP', ?, 0, 1, 0)`, "f-"+id, id, []byte("x"))
	s.exec(`INSERT INTO recovery_codes (agent_id, generation, position, mac) VALUES (?, 'g', 1, ?), (?, 'g', 2, ?)`, id, []byte("x"), id, []byte("y"))
	s.exec(`INSERT INTO enrollments (agent_id, id, begun_by, secret, failures, create_time, expire_time) VALUES (?, 'e', 'b', ?, 0, 1, 2)`, id, []byte("x"))
	s.exec(`INSERT INTO sign_ins (id, agent_id, agent_version, step, first_factor, client_kind, user_agent, address, keep_me_logged_in,
		failures, create_time, expire_time) VALUES (?, ?, 1, 'CHALLENGE', 'PASSWORD', 'WEB', '', '', ?, 0, 1, 2)`, "s-"+id, id, false)
	s.exec(`INSERT INTO factor_failures (agent_id, kind, failures, blocked_time) VALUES (?, 'FACTOR', 99, 1)`, id)
	s.exec(`UPDATE agents SET has_factor = ?, mfa_state_time = 1 WHERE id = ?`, true, id)
}

// left counts what an agent has in factorTables.
func (s *suite) left(a *authv1.Agent) (n int64) {
	s.t.Helper()
	for _, table := range factorTables {
		n += s.number(`SELECT count(*) FROM `+table+` WHERE agent_id = ?`, idOf(a))
	}
	return n
}

func TestResetMfa_takesEverythingAndEndsSessionsBeforeItAnswers(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
		ada, bob := p.agent("ada@example.com", authv1.Agent_AGENT), p.agent("bob@example.com", authv1.Agent_AGENT)
		s.giveFactor(ada)
		s.giveFactor(bob)
		require.Equal(t, authv1.Agent_SET_UP, p.get(ada.GetName()).GetMfaState())
		require.Empty(t, p.get(ada.GetName()).GetMfaStatusMessage())
		require.Equal(t, int64(6), s.left(ada))

		resp, err := p.agents().ResetMfa(as(t.Context(), admin), &authv1.ResetMfaRequest{
			Name: ada.GetName(), Reason: "  lost her phone ", RequestId: "r1",
		})
		require.NoError(t, err)
		require.Equal(t, int64(2), s.sessions.below(ada.GetName()), "before the answer")
		after := resp.GetAgent()
		require.Equal(t, authv1.Agent_NOT_SET_UP, after.GetMfaState())
		require.Equal(t, "Two-Factor Authentication not setup", after.GetMfaStatusMessage())
		require.WithinDuration(t, time.Now(), after.GetMfaStateTime().AsTime(), time.Minute)
		require.Equal(t, int64(2), after.GetVersion())
		require.NotEqual(t, ada.GetEtag(), after.GetEtag())
		requireSame(t, after, p.get(ada.GetName()))
		require.Zero(t, s.left(ada))
		require.Equal(t, int64(6), s.left(bob), "nobody else's")
		require.Zero(t, s.sessions.below(bob.GetName()))

		// Repeated with its id: the first answer, one event, and no harm to what
		// has been set up since.
		s.giveFactor(ada)
		again, err := p.agents().ResetMfa(as(t.Context(), admin), &authv1.ResetMfaRequest{
			Name: ada.GetName(), Reason: "  lost her phone ", RequestId: "r1",
		})
		require.NoError(t, err)
		requireSame(t, resp, again)
		require.Equal(t, int64(6), s.left(ada))
		_, err = p.agents().ResetMfa(as(t.Context(), admin), &authv1.ResetMfaRequest{Name: bob.GetName(), RequestId: "r1"})
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)

		p.background()
		msg := s.published(1)[0]
		event := eventOf(t, msg, &authv1.MFAReset{})
		require.NotNil(t, event.GetResetTime())
		require.Equal(t, after.GetMfaStateTime().AsTime(), event.GetResetTime().AsTime())
		event.ResetTime = nil
		requireSame(t, &authv1.MFAReset{
			Agent: ada.GetName(), AgentVersion: 2, Reason: "lost her phone",
			Actor: &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: admin.GetName(), DisplayName: "Named admin@example.com"},
		}, event)
		require.Equal(t, "twofold.auth.MFAReset.acme", msg.Subject())
		require.Equal(t, "2", msg.Headers().Get("ce-aggregateversion"))
	})
}

func TestResetMfa_withoutAFactor_stillEndsSessions(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	resp, err := p.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: ada.GetName()})
	require.NoError(t, err)
	require.Equal(t, int64(2), p.s.sessions.below(ada.GetName()))
	require.Equal(t, ada.GetMfaStateTime().AsTime(), resp.GetAgent().GetMfaStateTime().AsTime(), "the state is what it was")
	p.background()
	event := eventOf(t, p.s.published(1)[0], &authv1.MFAReset{})
	requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}, event.GetActor())
}

func TestResetMfa_whoMayResetWhom(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	owner := p.account("acme")
	second := p.agent("second@example.com", authv1.Agent_OWNER)
	admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
	other := p.agent("other@example.com", authv1.Agent_ADMIN)
	agent := p.agent("agent@example.com", authv1.Agent_AGENT)
	reset := func(ctx context.Context, target *authv1.Agent) error {
		_, err := p.agents().ResetMfa(ctx, &authv1.ResetMfaRequest{Name: target.GetName(), Reason: "why"})
		return err
	}
	for _, by := range []context.Context{asOperator(t.Context()), as(t.Context(), owner)} {
		for _, target := range []*authv1.Agent{second, admin, agent} {
			require.NoError(t, reset(by, target))
		}
	}
	require.NoError(t, reset(asOperator(t.Context()), owner))
	require.NoError(t, reset(as(t.Context(), admin), other))
	require.NoError(t, reset(as(t.Context(), admin), agent))

	before := p.s.number(`SELECT sum(version) FROM agents`)
	testkit.RequireError(t, reset(as(t.Context(), admin), owner), codes.PermissionDenied, errs.ReasonOwnerRequired)
	testkit.RequireError(t, reset(as(t.Context(), admin), admin), codes.FailedPrecondition, errs.ReasonCannotResetSelf)
	testkit.RequireError(t, reset(as(t.Context(), owner), owner), codes.FailedPrecondition, errs.ReasonCannotResetSelf)
	testkit.RequireError(t, reset(as(t.Context(), agent), admin), codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	testkit.RequireError(t, reset(as(t.Context(), agent), agent), codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	testkit.RequireError(t, reset(t.Context(), agent), codes.Unauthenticated, errs.ReasonCredentialsMissing)
	require.Equal(t, before, p.s.number(`SELECT sum(version) FROM agents`))
}

// A role that was raised after the admin read it protects all the same.
func TestResetMfa_roleIsThatOfTheMoment(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	admin, ada := p.agent("admin@example.com", authv1.Agent_ADMIN), p.agent("ada@example.com", authv1.Agent_AGENT)
	p.s.giveFactor(ada)
	p.s.exec(`UPDATE agents SET role = 'OWNER' WHERE id = ?`, idOf(ada))
	_, err := p.agents().ResetMfa(as(t.Context(), admin), &authv1.ResetMfaRequest{Name: ada.GetName()})
	testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonOwnerRequired)
	require.Equal(t, int64(6), p.s.left(ada))
}

func TestResetMfa_refused(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	ctx := asOperator(t.Context())
	for _, req := range []*authv1.ResetMfaRequest{
		{Name: "acme"}, {Name: ada.GetName(), Reason: "a\r\nBcc: b"}, {Name: ada.GetName(), Reason: "a\u2028b"}, {Name: ada.GetName(), Reason: "\x00x"},
		{Name: ada.GetName(), Reason: "a\u202eb"}, {Name: ada.GetName(), Reason: strings.Repeat("a", 501)}, {Name: ada.GetName(), RequestId: "\x00"},
	} {
		_, err := p.agents().ResetMfa(ctx, req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	_, err := p.agents().ResetMfa(ctx, &authv1.ResetMfaRequest{Name: "accounts/acme/agents/" + unknownAgent})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	require.Equal(t, int64(1), p.get(ada.GetName()).GetVersion())
}

// OK means that no session is left. So when the session service does not say so,
// the answer is not OK, though the reset is stored; its event stays, and calling
// again ends the sessions.
func TestResetMfa_sessionServiceDown_isStoredAndCanBeRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		ada := p.agent("ada@example.com", authv1.Agent_AGENT)
		s.giveFactor(ada)
		s.sessions.onRevoke(func(context.Context) error { return errDown })
		req := &authv1.ResetMfaRequest{Name: ada.GetName(), RequestId: "r1"}
		_, err := p.agents().ResetMfa(asOperator(t.Context()), req)
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.ErrorContains(t, err, "was reset")
		require.Zero(t, s.left(ada))
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM outbox WHERE event_type <> 'twofold.auth.v1.AgentInvited'`))

		s.sessions.onRevoke(nil)
		resp, err := p.agents().ResetMfa(asOperator(t.Context()), req)
		require.NoError(t, err)
		require.Equal(t, int64(2), resp.GetAgent().GetVersion())
		require.Equal(t, int64(2), s.sessions.below(ada.GetName()))
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM outbox WHERE event_type <> 'twofold.auth.v1.AgentInvited'`), "one event")
	})
}

// A session service that hangs holds an answer up for two seconds, not for ever.
func TestResetMfa_sessionServiceHangs_answersSoon(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	s.sessions.onRevoke(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	started := time.Now()
	_, err := p.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: ada.GetName()})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Less(t, time.Since(started), 10*time.Second)
	require.Equal(t, int64(2), p.get(ada.GetName()).GetVersion())
}

// A caller who has little time learns what happened within it.
func TestResetMfa_shortDeadline_answersWithinIt(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	s.sessions.onRevoke(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	client := p.agents()
	_, err := client.GetAgent(asOperator(t.Context()), &authv1.GetAgentRequest{Name: ada.GetName()}) // connects
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(asOperator(t.Context()), 1500*time.Millisecond)
	defer cancel()
	_, err = client.ResetMfa(ctx, &authv1.ResetMfaRequest{Name: ada.GetName()})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
}

// A lost phone does not wait for the policy service, but for people whose state
// is the policy's to say.
func TestResetMfa_policyServiceDown(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	viaSSO := s.seed(row{facts: enforcement.Agent{HasSSO: true, HasFactor: true}})[0]
	s.policies.switchOff(true)
	_, err := p.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: ada.GetName()})
	require.NoError(t, err)
	req := &authv1.ResetMfaRequest{Name: "accounts/acme/agents/" + viaSSO.id}
	_, err = p.agents().ResetMfa(asOperator(t.Context()), req)
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Equal(t, int64(1), s.number(`SELECT version FROM agents WHERE id = ?`, viaSSO.id), "nothing was stored")
	s.policies.switchOff(false)
	resp, err := p.agents().ResetMfa(asOperator(t.Context()), req)
	require.NoError(t, err)
	require.Equal(t, authv1.Agent_MANAGED_BY_SSO, resp.GetAgent().GetMfaState())
	require.Equal(t, "Managed by SSO", resp.GetAgent().GetMfaStatusMessage())
}

// Every reset has a version and an event of its own, in one order.
func TestResetMfa_inParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		ada := p.agent("ada@example.com", authv1.Agent_AGENT)
		s.giveFactor(ada)
		const n = 8
		versions := make(chan int64, n)
		_, failures := inParallel(n, func(int) error {
			resp, err := p.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: ada.GetName()})
			versions <- resp.GetAgent().GetVersion()
			return err
		})
		require.Empty(t, failures)
		seen := map[int64]bool{}
		for range n {
			seen[<-versions] = true
		}
		require.Len(t, seen, n)
		require.Equal(t, int64(n+1), p.get(ada.GetName()).GetVersion())
		require.Equal(t, int64(n+1), s.sessions.below(ada.GetName()))
		p.background()
		for i, msg := range s.published(n) {
			require.Equal(t, int64(i+2), eventOf(t, msg, &authv1.MFAReset{}).GetAgentVersion())
		}
	})
}
