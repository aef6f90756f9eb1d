package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// trail returns the audit events of acme, the oldest first, as the gateway reads
// them; and sees that their chain holds.
func (p *process) trail() []*auditv1.AuditEvent {
	p.s.t.Helper()
	client := auditv1.NewAuditTrailServiceClient(p.conn("gateway"))
	resp, err := client.ListAuditTrail(p.s.t.Context(), &auditv1.ListAuditTrailRequest{Account: "acme", PageSize: 1000})
	require.NoError(p.s.t, err)
	events := make([]*auditv1.AuditEvent, len(resp.GetAuditEvents()))
	for i, e := range resp.GetAuditEvents() {
		events[len(events)-1-i] = e
	}
	head, broken, err := audit.Verify(p.s.t.Context(), p.s.db, "acme")
	require.NoError(p.s.t, err)
	require.Nil(p.s.t, broken)
	require.EqualValues(p.s.t, len(events), head.Sequence)
	return events
}

// since returns the events that do adds.
func (p *process) since(do func()) []*auditv1.AuditEvent {
	p.s.t.Helper()
	before := len(p.trail())
	do()
	return p.trail()[before:]
}

// recorded is since for exactly one event, of a change, by somebody, to something.
func (p *process) recorded(do func(), action, subject string, actor *eventv1.Actor, details map[string]string) {
	t := p.s.t
	t.Helper()
	events := p.since(do)
	require.Len(t, events, 1, action)
	e := events[0]
	require.Equal(t, action, e.GetAction())
	require.Equal(t, subject, e.GetSubject())
	require.Equal(t, auditv1.AuditEvent_OK, e.GetResult(), e.GetErrorReason())
	require.Truef(t, proto.Equal(actor, e.GetActor()), "%v", e.GetActor())
	require.NotEmpty(t, e.GetRequestId())
	if len(details)+len(e.GetDetails()) > 0 {
		require.Equal(t, details, e.GetDetails())
	}
}

var operator = &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}

func actorNamed(a *authv1.Agent) *eventv1.Actor {
	return &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: a.GetName(), DisplayName: a.GetDisplayName()}
}

func TestAudit_oneEventForEachChangeByAdmins(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		var owner *authv1.Agent
		made := newAccount()
		made.RequestId = "once"
		ctx := asOperator(t.Context())
		_, err := p.accounts().CreateAccount(ctx, made)
		require.NoError(t, err)
		again, err := p.accounts().CreateAccount(ctx, made) // is answered as before
		require.NoError(t, err)
		owner = p.get(again.GetAccount().GetOwner())
		events := p.trail()
		require.Len(t, events, 1)
		require.Equal(t, "account.create", events[0].GetAction())
		require.Equal(t, "accounts/acme", events[0].GetSubject())
		require.Equal(t, map[string]string{"owner": owner.GetName()}, events[0].GetDetails())

		created := newAgent("ada@example.com")
		created.Role, created.RequestId = authv1.Agent_ADMIN, "once too"
		var ada *authv1.Agent
		events = p.since(func() {
			for range 2 {
				resp, err := p.agents().CreateAgent(as(t.Context(), owner), created)
				require.NoError(t, err)
				ada = resp.GetAgent()
			}
		})
		require.Len(t, events, 1)
		require.Equal(t, "agent.create", events[0].GetAction())
		require.Equal(t, ada.GetName(), events[0].GetSubject())
		require.True(t, proto.Equal(actorNamed(owner), events[0].GetActor()))
		require.Equal(t, map[string]string{"role": "ADMIN", "state": "INVITED"}, events[0].GetDetails())

		rows := &authv1.ImportAgentsRequest{Parent: "accounts/acme", RequestId: "once again"}
		for _, email := range []string{"a@example.com", "b@example.com", "ada@example.com", "no address"} {
			rows.Agents = append(rows.Agents, &authv1.ImportAgentsRequest_Row{Email: email, DisplayName: "Somebody"})
		}
		p.recorded(func() {
			for range 2 {
				_, err := p.agents().ImportAgents(as(t.Context(), ada), rows)
				require.NoError(t, err)
			}
		}, "agent.import", "accounts/acme", actorNamed(ada), map[string]string{
			"made": "2", "refused": "2", "sendInvitations": "false",
		})
		rows.RequestId = "" // makes nobody, and tells whose addresses are taken
		p.recorded(func() {
			_, err := p.agents().ImportAgents(as(t.Context(), ada), rows)
			require.NoError(t, err)
		}, "agent.import", "accounts/acme", actorNamed(ada), map[string]string{
			"made": "0", "refused": "4", "sendInvitations": "false",
		})

		s.giveFactor(owner)
		reset := &authv1.ResetMfaRequest{Name: owner.GetName(), Reason: "lost phone"}
		p.recorded(func() {
			_, err := p.agents().ResetMfa(asOperator(t.Context()), reset)
			require.NoError(t, err)
		}, "agent.resetMfa", owner.GetName(), operator, map[string]string{"reason": "lost phone", "hadFactor": "true"})

		// Stored although not confirmed: it has its event, and no refusal.
		s.sessions.onRevoke(func(context.Context) error { return errDown })
		p.recorded(func() {
			_, err := p.agents().ResetMfa(asOperator(t.Context()), reset)
			require.Equal(t, errs.ReasonDependencyUnavailable, errs.ReasonOf(err))
		}, "agent.resetMfa", owner.GetName(), operator, map[string]string{"reason": "lost phone", "hadFactor": "false"})
	})
}

func TestAudit_oneEventForEachRefusalOfAdmins(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		globex := p.account("globex")
		admin := p.agent("ada@example.com", authv1.Agent_ADMIN)
		plain := p.agent("bob@example.com", authv1.Agent_AGENT)
		const secret = "a password nobody may read"

		refused := func(action, reason, subject string, actor *eventv1.Actor, call func() error) {
			t.Helper()
			events := p.since(func() { require.Equal(t, reason, errs.ReasonOf(call())) })
			require.Len(t, events, 1, action+" "+reason)
			require.Equal(t, auditv1.AuditEvent_DENIED, events[0].GetResult())
			require.Equal(t, action, events[0].GetAction())
			require.Equal(t, reason, events[0].GetErrorReason())
			require.Equal(t, subject, events[0].GetSubject())
			require.Truef(t, proto.Equal(actor, events[0].GetActor()), "%v", events[0].GetActor())
		}
		reset := func(by, whom *authv1.Agent) func() error {
			return func() error {
				_, err := p.agents().ResetMfa(as(t.Context(), by), &authv1.ResetMfaRequest{Name: whom.GetName()})
				return err
			}
		}
		create := func(by *authv1.Agent, req *authv1.CreateAgentRequest) func() error {
			return func() error {
				_, err := p.agents().CreateAgent(as(t.Context(), by), req)
				return err
			}
		}
		refused("agent.resetMfa", errs.ReasonCallerNotPermitted, owner.GetName(), actorNamed(plain), reset(plain, owner))
		refused("agent.resetMfa", errs.ReasonCannotResetSelf, admin.GetName(), actorNamed(admin), reset(admin, admin))
		refused("agent.resetMfa", errs.ReasonOwnerRequired, owner.GetName(), actorNamed(admin), reset(admin, owner))
		refused("agent.resetMfa", errs.ReasonResourceNotFound, globex.GetName(), actorNamed(admin), reset(admin, globex))

		taken := newAgent("bob@example.com")
		taken.Password = secret
		refused("agent.create", errs.ReasonEmailTaken, "accounts/acme", actorNamed(admin), create(admin, taken))
		bad := newAgent("no address")
		bad.Password = secret
		refused("agent.create", errs.ReasonEmailInvalid, "accounts/acme", actorNamed(owner), create(owner, bad))
		misplaced := newAgent("new@example.com")
		misplaced.Parent = secret
		refused("agent.create", errs.ReasonInvalidField, "", actorNamed(owner), create(owner, misplaced))

		refused("agent.import", errs.ReasonInvalidField, "accounts/acme", actorNamed(admin), func() error {
			_, err := p.agents().ImportAgents(as(t.Context(), admin), &authv1.ImportAgentsRequest{Parent: "accounts/acme"})
			return err
		})
		refused("account.create", errs.ReasonAccountExists, "accounts/acme", operator, func() error {
			_, err := p.accounts().CreateAccount(asOperator(t.Context()), newAccount())
			return err
		})
		refused("account.create", errs.ReasonCallerNotPermitted, "accounts/acme", actorNamed(owner), func() error {
			_, err := p.accounts().CreateAccount(as(t.Context(), owner), newAccount())
			return err
		})
		require.NotContains(t, s.dump(), secret)

		// The others' own log says nothing of it; nothing that only reads is recorded;
		// nor what failed.
		require.Empty(t, p.since(func() {
			require.Error(t, reset(globex, owner)())
			_, err := p.agents().GetAgent(as(t.Context(), plain), &authv1.GetAgentRequest{Name: owner.GetName()})
			require.Equal(t, errs.ReasonCallerNotPermitted, errs.ReasonOf(err))
		}))
	})
}

// What people do about their own factors, in a session and on the way to one.
func TestAudit_secondFactors(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		self := actorNamed(w.get(w.owner))
		var phone *phone
		var done *authv1.ConfirmSignInEnrollmentResponse
		events := w.since(func() { phone, done = w.enrolled() })
		require.Len(t, events, 1)
		require.Equal(t, "factor.enroll", events[0].GetAction())
		require.Equal(t, w.owner, events[0].GetSubject())
		require.True(t, proto.Equal(self, events[0].GetActor()))
		require.Equal(t, "false", events[0].GetDetails()["replaced"])

		// A sign-in changes nothing, with a code or without one.
		require.Empty(t, w.since(func() {
			_, err := w.verify(w.challenge(), phone.at(0))
			require.NoError(t, err)
			_, err = w.verify(w.challenge(), phone.wrong())
			require.Error(t, err)
		}))
		w.recorded(func() { require.NoError(t, w.recover(w.challenge(), done.GetRecoveryCodes()[0])) },
			"recoveryCode.use", w.owner, self, map[string]string{"recoveryCodesLeft": "9"})

		m := w.me(done.GetSession())
		var codes []string
		w.recorded(func() {
			var err error
			codes, err = m.regenerate()
			require.NoError(t, err)
		}, "recoveryCodes.regenerate", w.owner, self, nil)

		var second string
		events = w.since(func() {
			next, id, err := m.begin()
			require.NoError(t, err)
			_, err = m.confirm(id, next.at(0))
			require.NoError(t, err)
			second = m.factor()
		})
		require.Len(t, events, 1)
		require.Equal(t, map[string]string{"factor": second, "type": "TOTP", "replaced": "true"}, events[0].GetDetails())

		w.lift()
		w.recorded(func() { require.NoError(t, m.remove(second)) },
			"factor.remove", w.owner, self, map[string]string{"factor": second, "last": "true"})

		dumped := s.dump()
		for _, code := range append(codes, done.GetRecoveryCodes()...) {
			require.NotContains(t, dumped, code)
			require.NotContains(t, dumped, strings.ReplaceAll(code, "-", ""))
		}
	})
}

// Guessing is recorded where it is stopped, not guess by guess.
func TestAudit_coolDowns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		wrongs := phone.wrongs(12)
		tokens := w.challenges(12)
		events := w.since(func() {
			for i := range 10 {
				_, err := w.verify(tokens[i], wrongs[i])
				require.Error(t, err)
			}
			_, err := w.verify(tokens[10], phone.at(0)) // not looked at
			require.Equal(t, errs.ReasonTooManyAttempts, errs.ReasonOf(err))
		})
		require.Len(t, events, 1)
		require.Equal(t, "factor.verify", events[0].GetAction())
		require.Equal(t, auditv1.AuditEvent_DENIED, events[0].GetResult())
		require.Equal(t, errs.ReasonTooManyAttempts, events[0].GetErrorReason())
		require.Equal(t, w.owner, events[0].GetSubject())
		require.Equal(t, eventv1.Actor_KIND_UNSPECIFIED, events[0].GetActor().GetKind(), "anybody with the password")
		require.Equal(t, map[string]string{"failures": "10", "coolDown": "60s"}, events[0].GetDetails())

		w.cooledDown()
		events = w.since(func() { require.Error(t, w.me(done.GetSession()).verifyCode(wrongs[11])) })
		require.Len(t, events, 1)
		require.True(t, proto.Equal(actorNamed(w.get(w.owner)), events[0].GetActor()), "in a session")
		require.Equal(t, "120s", events[0].GetDetails()["coolDown"])
	})
}

// The address is that of whoever is behind the gateway, and of nobody else's say.
func TestAudit_addressAndRequestID(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		call := func(conn authv1.AgentServiceClient) *auditv1.AuditEvent {
			ctx := metadata.AppendToOutgoingContext(as(t.Context(), owner),
				authz.ClientAddressKey, "203.0.113.9", authz.RequestIDKey, "req-7")
			events := p.since(func() {
				_, err := conn.ResetMfa(ctx, &authv1.ResetMfaRequest{Name: owner.GetName()})
				require.Equal(t, errs.ReasonCannotResetSelf, errs.ReasonOf(err))
			})
			require.Len(t, events, 1)
			require.WithinDuration(t, time.Now(), events[0].GetEventTime().AsTime(), time.Minute)
			require.Equal(t, "req-7", events[0].GetRequestId())
			return events[0]
		}
		require.Equal(t, "203.0.113.9", call(p.agentsFor("gateway")).GetClientAddress())
		require.NotEqual(t, "203.0.113.9", call(p.agents()).GetClientAddress())
	})
}
