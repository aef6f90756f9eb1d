package auth_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// update changes an agent by what is set in wanted.
func (p *process) update(ctx context.Context, wanted *authv1.Agent) (*authv1.Agent, error) {
	resp, err := p.agents().UpdateAgent(ctx, &authv1.UpdateAgentRequest{Agent: wanted})
	return resp.GetAgent(), err
}

func (p *process) setRole(ctx context.Context, a *authv1.Agent, role authv1.Agent_Role) error {
	_, err := p.update(ctx, &authv1.Agent{Name: a.GetName(), Role: role})
	return err
}

func (p *process) deactivate(ctx context.Context, a *authv1.Agent) (*authv1.Agent, error) {
	resp, err := p.agents().DeactivateAgent(ctx, &authv1.DeactivateAgentRequest{Name: a.GetName()})
	return resp.GetAgent(), err
}

func (p *process) reactivate(ctx context.Context, a *authv1.Agent) (*authv1.Agent, error) {
	resp, err := p.agents().ReactivateAgent(ctx, &authv1.ReactivateAgentRequest{Name: a.GetName()})
	return resp.GetAgent(), err
}

// active makes agents active who were never invited in earnest.
func (s *suite) active() { s.exec(`UPDATE agents SET state = 'ACTIVE' WHERE state = 'INVITED'`) }

func TestUpdateAgent_roleEndsSessionsBeforeItAnswers(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
		ada := p.agent("ada@example.com", authv1.Agent_AGENT)
		after, err := p.update(as(t.Context(), admin), &authv1.Agent{Name: ada.GetName(), Role: authv1.Agent_ADMIN})
		require.NoError(t, err)
		require.Equal(t, int64(2), s.sessions.below(ada.GetName()), "before the answer")
		require.Equal(t, authv1.Agent_ADMIN, after.GetRole())
		require.Equal(t, int64(2), after.GetVersion())
		require.NotEqual(t, ada.GetEtag(), after.GetEtag())
		requireSame(t, after, p.get(ada.GetName()))

		// The same again changes nothing, and tells nobody.
		again, err := p.update(as(t.Context(), admin), &authv1.Agent{Name: ada.GetName(), Role: authv1.Agent_ADMIN})
		require.NoError(t, err)
		requireSame(t, after, again)
		p.background()
		event := ofKind(s, 1, func() *authv1.RoleChanged { return &authv1.RoleChanged{} })[0]
		require.Equal(t, ada.GetName(), event.GetAgent())
		require.Equal(t, authv1.Agent_AGENT, event.GetPreviousRole())
		require.Equal(t, authv1.Agent_ADMIN, event.GetRole())
		require.Equal(t, int64(2), event.GetAgentVersion())
		require.Equal(t, admin.GetName(), event.GetActor().GetName())

		// Stored, but not confirmed; repeating it confirms.
		s.sessions.onRevoke(func(context.Context) error { return errDown })
		err = p.setRole(as(t.Context(), admin), ada, authv1.Agent_AGENT)
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Equal(t, authv1.Agent_AGENT, p.get(ada.GetName()).GetRole())
		s.sessions.onRevoke(nil)
		require.NoError(t, p.setRole(as(t.Context(), admin), ada, authv1.Agent_AGENT))
		require.Equal(t, int64(3), s.sessions.below(ada.GetName()))
	})
}

func TestUpdateAgent_nameAndAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.person("ada@example.com")
		w.person("bob@example.com")
		ada := w.agentOf("ada@example.com")
		after, err := w.update(asOperator(t.Context()), &authv1.Agent{
			Name: ada.GetName(), DisplayName: " Ada Byron ", Email: "Ada.Byron@Other.Example",
		})
		require.NoError(t, err)
		require.Equal(t, "Ada Byron", after.GetDisplayName())
		require.Equal(t, "Ada.Byron@other.example", after.GetEmail())
		require.Equal(t, ada.GetVersion(), after.GetVersion(), "nobody is signed out by it")
		requireSame(t, after, w.get(ada.GetName()))
		_, err = w.tryPassword("ada.byron@other.example", goodPassword)
		require.NoError(t, err)
		_, err = w.tryPassword("ada@example.com", goodPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
		found, err := w.agents().ListAgents(asOperator(t.Context()), &authv1.ListAgentsRequest{Parent: "accounts/acme", Query: "byron"})
		require.NoError(t, err)
		require.Len(t, found.GetAgents(), 1)

		_, err = w.update(asOperator(t.Context()), &authv1.Agent{Name: ada.GetName(), Email: "BOB@example.com"})
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonEmailTaken)
		w.background()
		event := ofKind(s, 1, func() *authv1.EmailChanged { return &authv1.EmailChanged{} })[0]
		require.Equal(t, "ada@example.com", event.GetPreviousEmail())
		require.Equal(t, "A***@o***.example", event.GetMaskedEmail())
		require.Equal(t, ada.GetName(), event.GetAgent())
	})
}

func (p *process) agentOf(email string) *authv1.Agent {
	p.s.t.Helper()
	var id string
	require.NoError(p.s.t, p.s.db.QueryRow(p.s.t.Context(), `SELECT id FROM agents WHERE email_key = ?`, email).Scan(&id))
	return p.get("accounts/acme/agents/" + id)
}

// Two agents cannot get one address, however fast.
func TestUpdateAgent_addressInParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		var people []*authv1.Agent
		for i := range 8 {
			people = append(people, p.agent(fmt.Sprintf("a%d@example.com", i), authv1.Agent_AGENT))
		}
		results := reasons(atOnce(len(people), func(i int) error {
			_, err := p.update(asOperator(t.Context()), &authv1.Agent{Name: people[i].GetName(), Email: "same@example.com"})
			return err
		}))
		require.Equal(t, map[string]int{"OK": 1, errs.ReasonEmailTaken: 7}, results)
	})
}

func TestUpdateAgent_maskAndEtag(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	ada := p.agent("ada@example.com", authv1.Agent_AGENT)
	update := func(a *authv1.Agent, paths ...string) error {
		a.Name = ada.GetName()
		_, err := p.agents().UpdateAgent(asOperator(t.Context()), &authv1.UpdateAgentRequest{
			Agent: a, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		return err
	}
	changed := func() *authv1.Agent {
		return &authv1.Agent{Role: authv1.Agent_ADMIN, DisplayName: "New", Email: "new@example.com"}
	}
	// What is not selected stays; what the suite sets may be sent back.
	require.NoError(t, update(changed()))
	require.NoError(t, update(changed(), "name", "version", "etag", "state", "mfa_state_time", "last_sso_sign_in.amr"))
	requireSame(t, ada, p.get(ada.GetName()))
	require.NoError(t, update(changed(), "display_name"))
	after := p.get(ada.GetName())
	require.Equal(t, "New", after.GetDisplayName())
	require.Equal(t, ada.GetEmail(), after.GetEmail())

	for _, path := range []string{"password", "role.x", "displayName", "email."} {
		testkit.RequireError(t, update(changed(), path), codes.InvalidArgument, errs.ReasonFieldMaskInvalid)
	}
	testkit.RequireError(t, update(&authv1.Agent{}, "role"), codes.InvalidArgument, errs.ReasonInvalidField)
	testkit.RequireError(t, update(&authv1.Agent{Role: 77}, "role"), codes.InvalidArgument, errs.ReasonInvalidField)
	testkit.RequireError(t, update(&authv1.Agent{}, "display_name"), codes.InvalidArgument, errs.ReasonInvalidField)
	testkit.RequireError(t, update(&authv1.Agent{Email: "ada"}, "email"), codes.InvalidArgument, errs.ReasonEmailInvalid)
	testkit.RequireError(t, update(changed(), "*", "x"), codes.InvalidArgument, errs.ReasonFieldMaskInvalid)

	stale := changed()
	stale.Etag = ada.GetEtag()
	testkit.RequireError(t, update(stale, "email"), codes.Aborted, errs.ReasonEtagMismatch)
	fresh := changed()
	fresh.Etag = after.GetEtag()
	require.NoError(t, update(fresh, "*"))
	require.Equal(t, "new@example.com", p.get(ada.GetName()).GetEmail())
	require.Equal(t, authv1.Agent_ADMIN, p.get(ada.GetName()).GetRole())

	_, err := p.agents().UpdateAgent(asOperator(t.Context()), &authv1.UpdateAgentRequest{})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
}

// Who may change whom into what.
func TestRoles_whoMayChangeWhom(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		p.account("other")
		second := p.agent("second@example.com", authv1.Agent_OWNER)
		third := p.agent("third@example.com", authv1.Agent_OWNER)
		admin := p.agent("admin@example.com", authv1.Agent_ADMIN)
		agent := p.agent("agent@example.com", authv1.Agent_AGENT)
		s.active()
		byOwner, byAdmin, byAgent := as(t.Context(), owner), as(t.Context(), admin), as(t.Context(), agent)
		versions := s.number(`SELECT sum(version) FROM agents`)

		// Owners are made, changed, demoted, deactivated and let in again by owners.
		for _, err := range []error{
			p.setRole(byAdmin, agent, authv1.Agent_OWNER), p.setRole(byAdmin, second, authv1.Agent_ADMIN),
			errorOf(p.deactivate(byAdmin, second)), errorOf(p.reactivate(byAdmin, second)),
			errorOf(p.update(byAdmin, &authv1.Agent{Name: second.GetName(), DisplayName: "Changed"})),
			errorOf(p.update(byAdmin, &authv1.Agent{Name: second.GetName(), Email: "mine@example.com"})),
		} {
			testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonOwnerRequired)
		}
		// Nobody changes their own role or goes by themselves.
		for _, err := range []error{
			p.setRole(byAdmin, admin, authv1.Agent_AGENT), p.setRole(byAdmin, admin, authv1.Agent_OWNER),
			errorOf(p.deactivate(byAdmin, admin)), p.setRole(byOwner, owner, authv1.Agent_ADMIN), errorOf(p.deactivate(byOwner, owner)),
		} {
			testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonCannotChangeSelf)
		}
		// Agents change nobody, and nobody changes what is elsewhere.
		for _, err := range []error{
			p.setRole(byAgent, admin, authv1.Agent_AGENT), errorOf(p.deactivate(byAgent, admin)), errorOf(p.reactivate(byAgent, admin)),
		} {
			testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
		}
		elsewhere := &authv1.Agent{Name: "accounts/other/agents/" + idOf(agent)}
		unknown := &authv1.Agent{Name: "accounts/acme/agents/01920000-0000-7000-8000-000000000000"}
		for _, err := range []error{
			p.setRole(byOwner, elsewhere, authv1.Agent_ADMIN), errorOf(p.deactivate(byOwner, elsewhere)), errorOf(p.reactivate(byOwner, elsewhere)),
			p.setRole(byOwner, unknown, authv1.Agent_ADMIN), errorOf(p.deactivate(byOwner, unknown)), errorOf(p.reactivate(byOwner, unknown)),
		} {
			testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		}
		require.Equal(t, versions, s.number(`SELECT sum(version) FROM agents`), "nothing has changed")

		require.NoError(t, p.setRole(byAdmin, agent, authv1.Agent_ADMIN))
		require.NoError(t, p.setRole(byOwner, agent, authv1.Agent_OWNER))
		require.NoError(t, p.setRole(byOwner, second, authv1.Agent_ADMIN))
		require.NoError(t, errorOf(p.deactivate(byOwner, third)))
		// A session from before says owner; the agent is none any more.
		err := p.setRole(as(t.Context(), second), agent, authv1.Agent_AGENT)
		testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonOwnerRequired)
		testkit.RequireError(t, p.setRole(as(t.Context(), third), agent, authv1.Agent_AGENT), codes.Unauthenticated, errs.ReasonSessionRevoked)

		// The last one stays, whoever asks.
		require.NoError(t, p.setRole(byOwner, agent, authv1.Agent_AGENT))
		for _, err := range []error{p.setRole(asOperator(t.Context()), owner, authv1.Agent_ADMIN), errorOf(p.deactivate(asOperator(t.Context()), owner))} {
			testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonLastOwner)
		}
		// Owners who cannot sign in do not count.
		require.NoError(t, p.setRole(asOperator(t.Context()), third, authv1.Agent_ADMIN))
		require.NoError(t, p.setRole(asOperator(t.Context()), third, authv1.Agent_OWNER))
		testkit.RequireError(t, p.setRole(asOperator(t.Context()), owner, authv1.Agent_ADMIN), codes.FailedPrecondition, errs.ReasonLastOwner)
		require.NoError(t, errorOf(p.reactivate(asOperator(t.Context()), third)))
		s.active()
		require.NoError(t, p.setRole(asOperator(t.Context()), owner, authv1.Agent_ADMIN))
	})
}

func errorOf[T any](_ T, err error) error { return err }

// However many owners are taken away at once, one is left.
func TestRoles_lastOwnerInParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		for round := range 5 {
			account := fmt.Sprintf("acme%d", round)
			owners := []*authv1.Agent{p.account(account)}
			for i := range 7 {
				made, err := p.agents().CreateAgent(asOperator(t.Context()), &authv1.CreateAgentRequest{
					Parent: "accounts/" + account, Email: fmt.Sprintf("o%d@example.com", i), DisplayName: "Owner", Role: authv1.Agent_OWNER,
				})
				require.NoError(t, err)
				owners = append(owners, made.GetAgent())
			}
			s.active()
			results := reasons(atOnce(len(owners), func(i int) error {
				ctx := asOperator(t.Context())
				if i%2 == 0 { // by the next owner, who is being taken away too
					ctx = as(t.Context(), owners[(i+1)%len(owners)])
				}
				if i%3 == 0 {
					return errorOf(p.deactivate(ctx, owners[i]))
				}
				return p.setRole(ctx, owners[i], authv1.Agent_AGENT)
			}))
			left := s.number(`SELECT count(*) FROM agents WHERE account = ? AND role = 'OWNER' AND state = 'ACTIVE'`, account)
			require.GreaterOrEqual(t, left, int64(1), "%v", results)
			require.Equal(t, len(owners)-results["OK"], int(left), "%v", results)
		}
	})
}

// Nobody has the next link for a password sent to themselves with a session alone.
func TestUpdateAgent_ownAddressNeedsAFreshFactor(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	m := w.me(done.GetSession())
	mine := &authv1.Agent{Name: w.owner, Email: "elsewhere@example.com"}
	w.s.clock.advance(6 * time.Minute)
	w.s.clock.atStep(0)
	requireStepUp(t, errorOf(w.update(m.ctx(), mine)))
	require.NoError(t, errorOf(w.update(m.ctx(), &authv1.Agent{Name: w.owner, DisplayName: "Olga"})))
	require.NoError(t, m.verifyCode(phone.at(0)))
	require.NoError(t, errorOf(w.update(m.ctx(), mine)))
}

func TestDeactivateAgent_keepsOutAtOnceAndUntilReactivated(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		w.person("ada@example.com")
		phone, done := w.enrolledAs("ada@example.com")
		ada := w.agentOf("ada@example.com")
		session, waiting := done.GetSession(), w.signInAs("ada@example.com").GetChallenge().GetSignInToken()
		w.forget("ada@example.com")
		link := w.link(ada.GetName(), toReset)

		after, err := w.deactivate(asOperator(t.Context()), ada)
		require.NoError(t, err)
		require.Nil(t, s.sessions.byToken(session.GetToken()), "ended before the answer")
		require.Equal(t, authv1.Agent_DEACTIVATED, after.GetState())
		require.Equal(t, ada.GetVersion()+1, after.GetVersion())
		_, err = w.tryPassword("ada@example.com", goodPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
		_, err = w.verify(waiting, phone.at(0))
		requireSignInExpired(t, err)
		requireLinkExpired(t, w.reset(link, newPassword))
		w.forget("ada@example.com")
		require.Empty(t, s.promised(ada.GetName(), toReset))

		again, err := w.deactivate(asOperator(t.Context()), ada)
		require.NoError(t, err)
		requireSame(t, after, again)
		event := ofKind(s, 1, func() *authv1.AgentDeactivated { return &authv1.AgentDeactivated{} })[0]
		require.Equal(t, ada.GetName(), event.GetAgent())
		require.Equal(t, after.GetVersion(), event.GetAgentVersion())

		back, err := w.reactivate(asOperator(t.Context()), ada)
		require.NoError(t, err)
		require.Equal(t, authv1.Agent_ACTIVE, back.GetState())
		require.Equal(t, authv1.Agent_SET_UP, back.GetMfaState())
		next, err := w.tryPassword("ada@example.com", goodPassword)
		require.NoError(t, err)
		_, err = w.verify(next.GetChallenge().GetSignInToken(), phone.at(0))
		require.NoError(t, err)
		_, err = w.reactivate(asOperator(t.Context()), ada)
		require.NoError(t, err, "is active already")
	})
}

func TestDeactivateAgent_sessionServiceDown_isStoredAndCanBeRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.account("acme")
		ada := p.agent("ada@example.com", authv1.Agent_AGENT)
		s.sessions.onRevoke(func(context.Context) error { return errDown })
		testkit.RequireError(t, errorOf(p.deactivate(asOperator(t.Context()), ada)), codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Equal(t, authv1.Agent_DEACTIVATED, p.get(ada.GetName()).GetState())
		s.sessions.onRevoke(nil)
		require.NoError(t, errorOf(p.deactivate(asOperator(t.Context()), ada)))
		require.Equal(t, int64(2), s.sessions.below(ada.GetName()))
	})
}

// Of a long import, what was answered stays, whatever ends the stream.
func TestStreamImportAgents(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		m := w.me(w.signIn().GetSession())
		batch := func(from, n int) *authv1.StreamImportAgentsRequest {
			req := &authv1.ImportAgentsRequest{Parent: "accounts/acme", RequestId: fmt.Sprintf("b%d", from)}
			for i := range n {
				req.Agents = append(req.Agents, &authv1.ImportAgentsRequest_Row{Email: fmt.Sprintf("a%d@example.com", from+i), DisplayName: "A"})
			}
			return &authv1.StreamImportAgentsRequest{Batch: req}
		}
		stream, err := w.agents().StreamImportAgents(m.ctx())
		require.NoError(t, err)
		for i := range 3 {
			require.NoError(t, stream.Send(batch(i*1000, 1000)))
		}
		require.NoError(t, stream.Send(batch(0, 1000)), "repeated with its id")
		require.NoError(t, stream.Send(batch(2500, 2)), "taken")
		for i := range 5 {
			resp, err := stream.Recv()
			require.NoError(t, err)
			if i == 4 {
				require.Equal(t, errs.ReasonEmailTaken, resp.GetResults()[0].GetError().GetReason())
				continue
			}
			require.Len(t, resp.GetResults(), 1000)
			require.Equal(t, fmt.Sprintf("a%d@example.com", i%3*1000+999), resp.GetResults()[999].GetAgent().GetEmail())
		}
		require.Equal(t, int64(3001), s.number(`SELECT count(*) FROM agents`))

		// The session that began it ends.
		_, err = s.sessions.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{Agent: w.owner, AgentVersion: 99})
		require.NoError(t, err)
		require.NoError(t, stream.Send(batch(5000, 1)))
		_, err = stream.Recv()
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSessionUnknown)
		require.Equal(t, int64(3001), s.number(`SELECT count(*) FROM agents`))

		// A batch that is no batch ends it too.
		for want, bad := range map[string]*authv1.StreamImportAgentsRequest{
			errs.ReasonInvalidField:     {},
			errs.ReasonResourceNotFound: {Batch: &authv1.ImportAgentsRequest{Parent: "accounts/nobody", Agents: batch(0, 1).GetBatch().GetAgents()}},
		} {
			stream, err := w.agents().StreamImportAgents(asOperator(t.Context()))
			require.NoError(t, err)
			require.NoError(t, stream.Send(bad))
			_, err = stream.Recv()
			require.Equal(t, want, errs.ReasonOf(err))
		}
		stream, err = w.agents().StreamImportAgents(asOperator(t.Context()))
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		_, err = stream.Recv()
		require.ErrorContains(t, err, "EOF")
	})
}
