package auth_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const (
	newPassword = "another horse, another battery"

	toJoin  = authv1.IssueLinkRequest_INVITATION
	toReset = authv1.IssueLinkRequest_PASSWORD_RESET
)

// promised returns the event of the mail an agent was last promised a link in, or "".
func (s *suite) promised(agentName string, purpose authv1.IssueLinkRequest_Purpose) string {
	s.t.Helper()
	var event string
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), `SELECT COALESCE(MAX(event_id), '') FROM links WHERE agent_id = ? AND purpose = ?`,
		agentName[strings.LastIndex(agentName, "/")+1:], purpose.String()).Scan(&event))
	return event
}

// mailed asks for the token of a mail as the notifier does.
func (p *process) mailed(agentName string, purpose authv1.IssueLinkRequest_Purpose, event string) (*authv1.IssueLinkResponse, error) {
	return p.agentsFor("notifier").IssueLink(p.s.t.Context(), &authv1.IssueLinkRequest{
		Agent: agentName, Purpose: purpose, EventId: event,
	})
}

// link returns the token in the newest mail.
func (p *process) link(agentName string, purpose authv1.IssueLinkRequest_Purpose) string {
	p.s.t.Helper()
	event := p.s.promised(agentName, purpose)
	require.NotEmpty(p.s.t, event, "no mail was promised")
	issued, err := p.mailed(agentName, purpose, event)
	require.NoError(p.s.t, err)
	return issued.GetToken()
}

func (w *world) accept(token, password string) error {
	resp, err := w.signIns().AcceptInvitation(w.t.Context(), &authv1.AcceptInvitationRequest{Token: token, Password: password})
	require.True(w.t, err != nil || proto.Equal(resp, &authv1.AcceptInvitationResponse{}))
	return err
}

func (w *world) reset(token, password string) error {
	resp, err := w.signIns().ResetPassword(w.t.Context(), &authv1.ResetPasswordRequest{Token: token, Password: password})
	require.True(w.t, err != nil || proto.Equal(resp, &authv1.ResetPasswordResponse{}))
	return err
}

// forget has somebody ask for a new password, and waits until that was looked at.
func (w *world) forget(email string) {
	w.t.Helper()
	_, err := w.signIns().RequestPasswordReset(w.t.Context(), resetRequest("acme", email))
	require.NoError(w.t, err)
	require.Eventually(w.t, func() bool { return w.s.number(`SELECT count(*) FROM reset_requests`) == 0 }, 20*time.Second, 20*time.Millisecond)
}

// tryPassword tries to sign in.
func (w *world) tryPassword(email, password string) (*authv1.SignInResponse, error) {
	req := signInRequest()
	req.Email, req.Password = email, password
	return w.signIns().SignIn(w.t.Context(), req)
}

func requireLinkExpired(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonLinkExpired)
}

// ofKind returns the events of the stream of one kind, waiting for n of them.
func ofKind[M proto.Message](s *suite, n int, fresh func() M) (found []M) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		found = nil
		for _, msg := range s.stream() {
			if into := fresh(); isEvent(msg, into) {
				found = append(found, eventOf(s.t, msg, into))
			}
		}
		return len(found) >= n
	}, 20*time.Second, 20*time.Millisecond)
	require.Len(s.t, found, n)
	return found
}

// Nothing but the mail holds a token: not the database, not an event. It is the same
// for the same mail, and only the notifier gets it.
func TestIssueLink(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		ada, bob := w.agent("ada@example.com", authv1.Agent_AGENT), w.agent("bob@example.com", authv1.Agent_AGENT)
		event := s.promised(ada.GetName(), toJoin)
		first, err := w.mailed(ada.GetName(), toJoin, event)
		require.NoError(t, err)
		require.Regexp(t, `^tfl1_[A-Za-z0-9_-]{43}$`, first.GetToken())
		require.WithinDuration(t, time.Now().Add(72*time.Hour), first.GetExpireTime().AsTime(), time.Minute)
		again, err := w.mailed(ada.GetName(), toJoin, event)
		require.NoError(t, err)
		require.Equal(t, first.GetToken(), again.GetToken())
		require.NotEqual(t, first.GetToken(), w.link(bob.GetName(), toJoin))

		for _, wrong := range []*authv1.IssueLinkRequest{
			{Agent: ada.GetName(), Purpose: toJoin, EventId: s.promised(bob.GetName(), toJoin)},
			{Agent: ada.GetName(), Purpose: toJoin, EventId: "other"},
			{Agent: ada.GetName(), Purpose: toReset, EventId: event},
			{Agent: w.owner, Purpose: toJoin, EventId: event},
			{Agent: "accounts/acme/agents/01920000-0000-7000-8000-000000000000", Purpose: toJoin, EventId: event},
		} {
			_, err := w.agentsFor("notifier").IssueLink(t.Context(), wrong)
			testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		}
		for _, invalid := range []*authv1.IssueLinkRequest{
			{Agent: ada.GetName(), EventId: event}, {Agent: ada.GetName(), Purpose: toJoin}, {Agent: "ada", Purpose: toJoin, EventId: event},
		} {
			_, err := w.agentsFor("notifier").IssueLink(t.Context(), invalid)
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		}
		for _, other := range []string{"gateway", "platform", "session"} {
			_, err := w.agentsFor(other).IssueLink(t.Context(), &authv1.IssueLinkRequest{Agent: ada.GetName(), Purpose: toJoin, EventId: event})
			testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
		}

		w.background()
		ofKind(s, 2, func() *authv1.AgentInvited { return &authv1.AgentInvited{} })
		secret := strings.TrimPrefix(first.GetToken(), "tfl1_")
		require.NotContains(t, s.dump(), secret)
		for _, msg := range s.stream() {
			require.NotContains(t, string(msg.Data()), secret)
		}
		sum := sha256.Sum256([]byte(first.GetToken()))
		require.Contains(t, s.dump(), hex.EncodeToString(sum[:]), "the dump looks at links")
	})
}

// Of many uses at once, one counts.
func TestLinks_workOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		ada := w.agent("ada@example.com", authv1.Agent_AGENT)
		token := w.link(ada.GetName(), toJoin)
		results := reasons(atOnce(50, func(int) error { return w.accept(token, newPassword) }))
		require.Equal(t, map[string]int{"OK": 1, errs.ReasonLinkExpired: 49}, results)
		require.Equal(t, int64(2), w.get(ada.GetName()).GetVersion(), "changed once")
		requireLinkExpired(t, w.accept(token, newPassword))

		w.background()
		w.forget(ownerEmail)
		token = w.link(w.owner, toReset)
		results = reasons(atOnce(50, func(int) error { return w.reset(token, newPassword) }))
		require.Equal(t, map[string]int{"OK": 1, errs.ReasonLinkExpired: 49}, results)
		require.Equal(t, int64(2), w.get(w.owner).GetVersion(), "changed once")
	})
}

func TestLinks_refused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		w.person("pat@example.com")
		ada := w.agent("ada@example.com", authv1.Agent_AGENT)
		invitation := w.link(ada.GetName(), toJoin)
		w.forget(ownerEmail)
		forgotten := w.link(w.owner, toReset)
		changed := s.number(`SELECT sum(version) FROM agents`)

		// Another purpose, another form, or nothing at all.
		requireLinkExpired(t, w.reset(invitation, newPassword))
		requireLinkExpired(t, w.accept(forgotten, newPassword))
		sum := sha256.Sum256([]byte(invitation))
		for _, wrong := range []string{
			"x", "tfl1_", invitation[:len(invitation)-1], invitation + "A", " " + invitation, strings.TrimPrefix(invitation, "tfl1_"),
			"tfl1_" + strings.Repeat("A", 43), "tfi1_" + strings.TrimPrefix(invitation, "tfl1_"), hex.EncodeToString(sum[:]), s.promised(ada.GetName(), toJoin),
		} {
			requireLinkExpired(t, w.accept(wrong, newPassword))
			requireLinkExpired(t, w.reset(wrong, newPassword))
		}
		for _, err := range []error{w.accept("", newPassword), w.accept(invitation, ""), w.reset("", newPassword), w.reset(forgotten, "")} {
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		}
		// A bad password costs nobody the link.
		for _, err := range []error{w.accept(invitation, "short"), w.reset(forgotten, "short")} {
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonPasswordUnacceptable)
		}
		require.Equal(t, changed, s.number(`SELECT sum(version) FROM agents`))

		// Too late by a little, then in time.
		s.exec(`UPDATE links SET expire_time = ?`, time.Now().Add(-time.Second).UnixMicro())
		requireLinkExpired(t, w.accept(invitation, newPassword))
		requireLinkExpired(t, w.reset(forgotten, newPassword))
		s.exec(`UPDATE links SET expire_time = ?`, time.Now().Add(10*time.Second).UnixMicro())
		require.NoError(t, w.accept(invitation, newPassword))
		require.NoError(t, w.reset(forgotten, newPassword))
	})
}

// What voids a link: a newer one, being kept out, another address, another password.
func TestLinks_void(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		ctx := asOperator(t.Context())
		ada := w.agent("ada@example.com", authv1.Agent_AGENT)
		resend := func() error {
			_, err := w.agents().ResendInvitation(ctx, &authv1.ResendInvitationRequest{Name: ada.GetName()})
			return err
		}
		voidedBy := func(what func(), still bool) {
			t.Helper()
			event, token := s.promised(ada.GetName(), toJoin), w.link(ada.GetName(), toJoin)
			what()
			requireLinkExpired(t, w.accept(token, newPassword))
			_, err := w.mailed(ada.GetName(), toJoin, event)
			testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
			require.Equal(t, still, s.promised(ada.GetName(), toJoin) != "")
		}
		voidedBy(func() { require.NoError(t, resend()) }, true)
		voidedBy(func() {
			_, err := w.agents().UpdateAgent(ctx, &authv1.UpdateAgentRequest{Agent: &authv1.Agent{Name: ada.GetName(), Email: "ada@other.example"}})
			require.NoError(t, err)
		}, true)
		voidedBy(func() {
			_, err := w.agents().DeactivateAgent(ctx, &authv1.DeactivateAgentRequest{Name: ada.GetName()})
			require.NoError(t, err)
		}, false)
		testkit.RequireError(t, resend(), codes.FailedPrecondition, errs.ReasonAgentNotInvited)
		_, err := w.agents().ReactivateAgent(ctx, &authv1.ReactivateAgentRequest{Name: ada.GetName()})
		require.NoError(t, err)
		require.NoError(t, w.accept(w.link(ada.GetName(), toJoin), newPassword), "invited anew")
		testkit.RequireError(t, resend(), codes.FailedPrecondition, errs.ReasonAgentNotInvited)

		// A link for a new password, by a newer one and by a change in the profile.
		w.forget(ownerEmail)
		older := w.link(w.owner, toReset)
		w.forget(ownerEmail)
		newer := w.link(w.owner, toReset)
		requireLinkExpired(t, w.reset(older, newPassword))
		m := w.me(w.signIn().GetSession())
		_, err = w.profile().ChangePassword(m.ctx(), &authv1.ChangePasswordRequest{CurrentPassword: goodPassword, NewPassword: newPassword})
		require.NoError(t, err)
		requireLinkExpired(t, w.reset(newer, goodPassword))
	})
}

// An invited agent joins: by the link, with a password, and then by signing in.
func TestInvitation_fromTheFirstMailToTheFirstSignIn(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		ada := w.agent("ada@example.com", authv1.Agent_ADMIN)
		require.Equal(t, authv1.Agent_INVITED, ada.GetState())
		_, err := w.tryPassword("ada@example.com", newPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)

		require.NoError(t, w.accept(w.link(ada.GetName(), toJoin), newPassword))
		require.Zero(t, s.sessions.makes(), "nobody is signed in by it")
		require.Zero(t, s.number(`SELECT count(*) FROM sign_ins`))
		joined := w.get(ada.GetName())
		require.Equal(t, authv1.Agent_ACTIVE, joined.GetState())
		require.Equal(t, authv1.Agent_ADMIN, joined.GetRole())
		w.enforce()
		next, err := w.tryPassword("ada@example.com", newPassword)
		require.NoError(t, err)
		require.NotEmpty(t, next.GetEnrollmentRequired().GetSignInToken(), "no way round the policy")

		invited := ofKind(s, 1, func() *authv1.AgentInvited { return &authv1.AgentInvited{} })[0]
		require.Equal(t, ada.GetName(), invited.GetAgent())
		require.Equal(t, "OPERATOR", invited.GetActor().GetKind().String())
		changed := ofKind(s, 1, func() *authv1.PasswordChanged { return &authv1.PasswordChanged{} })[0]
		require.Equal(t, authv1.PasswordChanged_INVITATION, changed.GetCause())
		require.Equal(t, int64(2), changed.GetAgentVersion())
	})
}

// Who is invited: agents without a password, owners of new accounts, and imported
// ones if asked.
func TestInvitation_whoIsInvited(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		require.NotEmpty(t, s.promised(owner.GetName(), toJoin))
		req := &authv1.ImportAgentsRequest{Parent: "accounts/acme", SendInvitations: true, Agents: []*authv1.ImportAgentsRequest_Row{
			{Email: "a@example.com", DisplayName: "A"}, {Email: "b@example.com", DisplayName: "B", Password: goodPassword},
		}}
		resp, err := p.agents().ImportAgents(asOperator(t.Context()), req)
		require.NoError(t, err)
		a, b := resp.GetResults()[0].GetAgent().GetName(), resp.GetResults()[1].GetAgent().GetName()
		require.NotEmpty(t, p.link(a, toJoin))
		require.Empty(t, s.promised(b, toJoin), "has a password")
		req.SendInvitations, req.Agents = false, []*authv1.ImportAgentsRequest_Row{{Email: "c@example.com", DisplayName: "C"}}
		resp, err = p.agents().ImportAgents(asOperator(t.Context()), req)
		require.NoError(t, err)
		require.Empty(t, s.promised(resp.GetResults()[0].GetAgent().GetName(), toJoin), "nobody asked")
	})
}

func TestResendInvitation_whoMay(t *testing.T) {
	p := newSuite(t, testkit.SQLite(t)).start()
	p.account("acme")
	p.account("other")
	admin, agent := p.agent("admin@example.com", authv1.Agent_ADMIN), p.agent("agent@example.com", authv1.Agent_AGENT)
	resend := func(ctx context.Context, name string) error {
		_, err := p.agents().ResendInvitation(ctx, &authv1.ResendInvitationRequest{Name: name})
		return err
	}
	require.NoError(t, resend(as(t.Context(), admin), agent.GetName()))
	testkit.RequireError(t, resend(as(t.Context(), agent), agent.GetName()), codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	other := strings.Replace(agent.GetName(), "acme", "other", 1)
	testkit.RequireError(t, resend(as(t.Context(), admin), other), codes.NotFound, errs.ReasonResourceNotFound)
	testkit.RequireError(t, resend(asOperator(t.Context()), other), codes.NotFound, errs.ReasonResourceNotFound)
	testkit.RequireError(t, resend(asOperator(t.Context()), "agents/x"), codes.InvalidArgument, errs.ReasonInvalidField)
}
