package auth_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// sso signs in as the platform's login does.
func (w *world) sso(change func(req *authv1.SignInWithSSORequest)) (*authv1.SignInWithSSOResponse, error) {
	req := &authv1.SignInWithSSORequest{
		Account: "acme", Email: ownerEmail, Amr: []string{"pwd", "otp"}, Client: sessionv1.Client_WEB,
		KeepMeLoggedIn: true, UserAgent: "Mozilla/5.0\n (X11)", ClientAddress: "::ffff:192.0.2.7",
	}
	if change != nil {
		change(req)
	}
	return authv1.NewSignInServiceClient(w.conn("platform")).SignInWithSSO(w.t.Context(), req)
}

func (w *world) ssoAs(email string) (*authv1.SignInWithSSOResponse, error) {
	return w.sso(func(req *authv1.SignInWithSSORequest) { req.Email = email })
}

// What follows a sign-in by SSO, in every combination. The table is written by hand
// from what was promised, and shares nothing with the rule:
//
//   - agents who come by SSO are the identity provider's business, and so are admins
//     who have no password, unless the policy applies to SSO;
//   - all others are asked for the second factor they have, or led to set one up
//     while the account enforces it.
func TestSignInWithSSO_everyCombination(t *testing.T) {
	const session, challenge, setUp = "session", "challenge", "set-up"
	// By the policy (off, enforced) and whether there is a factor.
	type outcomes struct{ off, offFactor, on, onFactor string }
	left := outcomes{session, session, session, session}
	covered := outcomes{session, challenge, setUp, challenge}
	table := []struct {
		role        authv1.Agent_Role
		hasPassword bool
		applyToSSO  bool
		want        outcomes
	}{
		{authv1.Agent_AGENT, false, false, left},
		{authv1.Agent_AGENT, true, false, left},
		{authv1.Agent_ADMIN, false, false, left},
		{authv1.Agent_ADMIN, true, false, covered},
		{authv1.Agent_OWNER, false, false, left},
		{authv1.Agent_OWNER, true, false, covered},
		{authv1.Agent_AGENT, false, true, covered},
		{authv1.Agent_AGENT, true, true, covered},
		{authv1.Agent_ADMIN, false, true, covered},
		{authv1.Agent_ADMIN, true, true, covered},
		{authv1.Agent_OWNER, false, true, covered},
		{authv1.Agent_OWNER, true, true, covered},
	}
	w := newSuite(t, testkit.SQLite(t)).world()
	ada := w.agent("ada@example.com", authv1.Agent_AGENT)
	for _, row := range table {
		for _, enforced := range []bool{false, true} {
			for _, hasFactor := range []bool{false, true} {
				for _, before := range []bool{false, true} { // whether they came by SSO before
					want := map[[2]bool]string{
						{false, false}: row.want.off, {false, true}: row.want.offFactor,
						{true, false}: row.want.on, {true, true}: row.want.onFactor,
					}[[2]bool{enforced, hasFactor}]
					name := fmt.Sprintf("%s password=%t applyToSSO=%t enforced=%t factor=%t before=%t",
						row.role, row.hasPassword, row.applyToSSO, enforced, hasFactor, before)
					w.s.exec(`DELETE FROM factors`)
					w.s.exec(`UPDATE agents SET role = ?, has_password = ?, has_factor = ?, has_sso = ?, state = 'ACTIVE' WHERE id = ?`,
						row.role.String(), row.hasPassword, hasFactor, before, idOf(ada))
					if hasFactor {
						w.s.exec(`INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time)
							VALUES ('f', ?, 'TOTP', ?, 0, 1, 0)`, idOf(ada), []byte("x"))
					}
					w.s.policies.set(enforcement.Settings{Enforced: enforced, ApplyToSSO: row.applyToSSO, GracePeriod: time.Hour}, time.Now())

					made := w.s.sessions.makes()
					resp, err := w.ssoAs("ada@example.com")
					require.NoError(t, err, name)
					got := ""
					switch {
					case resp.GetSession().GetToken() != "":
						got = session
						last := w.s.sessions.lastMade()
						require.Equal(t, sessionv1.Session_SSO, last.GetFirstFactor(), name)
						require.Equal(t, sessionv1.Session_AAL1, last.GetAssuranceLevel(), name)
						require.Equal(t, row.hasPassword, last.GetHasPassword(), name)
						require.Equal(t, row.role.String(), last.GetRole().String(), name)
						made++
					case resp.GetChallenge().GetSignInToken() != "":
						got = challenge
					case resp.GetEnrollmentRequired().GetSignInToken() != "":
						got = setUp
						require.Equal(t, "MFA_SETUP_REQUIRED", resp.GetEnrollmentRequired().GetPrompt().GetCode(), name)
					}
					require.Equal(t, want, got, name)
					require.Equal(t, made, w.s.sessions.makes(), name)
				}
			}
		}
	}
}

// The agents page says whose business an agent is.
func TestSignInWithSSO_firstTime(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		ada := w.agent("ada@example.com", authv1.Agent_AGENT)
		require.Nil(t, ada.GetLastSsoSignIn())
		invitation := w.link(ada.GetName(), toJoin)
		resp, err := w.ssoAs("ADA@example.com")
		require.NoError(t, err)
		require.True(t, resp.GetSession().GetKeepMeLoggedIn())
		require.Equal(t, "Mozilla/5.0 (X11)", resp.GetSession().GetClient().GetUserAgent())
		require.Equal(t, "192.0.2.7", resp.GetSession().GetClient().GetAddress())

		after := w.get(ada.GetName())
		require.Equal(t, authv1.Agent_ACTIVE, after.GetState())
		require.Equal(t, authv1.Agent_MANAGED_BY_SSO, after.GetMfaState())
		require.Equal(t, "Managed by SSO", after.GetMfaStatusMessage())
		require.True(t, after.GetMfaStateTime().AsTime().After(ada.GetMfaStateTime().AsTime()))
		require.Equal(t, []string{"pwd", "otp"}, after.GetLastSsoSignIn().GetAmr())
		require.WithinDuration(t, time.Now(), after.GetLastSsoSignIn().GetTime().AsTime(), time.Minute)
		require.Equal(t, ada.GetVersion(), after.GetVersion(), "no session ends by it")
		requireLinkExpired(t, w.accept(invitation, newPassword))

		// The next time notes what was said then, and nothing else.
		_, err = w.sso(func(req *authv1.SignInWithSSORequest) { req.Email, req.Amr = "ada@example.com", nil })
		require.NoError(t, err)
		again := w.get(ada.GetName())
		require.Empty(t, again.GetLastSsoSignIn().GetAmr())
		require.Equal(t, after.GetEtag(), again.GetEtag())
		require.Equal(t, after.GetMfaStateTime().AsTime(), again.GetMfaStateTime().AsTime())

		// Under a policy that applies to SSO they are as everybody.
		s.policies.set(enforcement.Settings{ApplyToSSO: true, GracePeriod: time.Hour}, time.Time{})
		require.Equal(t, authv1.Agent_NOT_SET_UP, w.get(ada.GetName()).GetMfaState())
	})
}

// What the second step makes of it is still a sign-in by SSO.
func TestSignInWithSSO_secondFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		s.policies.set(enforcement.Settings{Enforced: true, ApplyToSSO: true, GracePeriod: time.Hour}, time.Now())
		s.clock.atStep(0)
		resp, err := w.ssoAs(ownerEmail)
		require.NoError(t, err)
		token := resp.GetEnrollmentRequired().GetSignInToken()
		phone, enrollment := w.begin(token)
		require.NoError(t, w.confirm(token, enrollment.GetEnrollmentId(), phone.at(0)))
		require.Equal(t, sessionv1.Session_SSO, s.sessions.lastMade().GetFirstFactor())
		require.Equal(t, sessionv1.Session_AAL2, s.sessions.lastMade().GetAssuranceLevel())

		s.clock.atStep(2)
		resp, err = w.ssoAs(ownerEmail)
		require.NoError(t, err)
		require.Equal(t, []authv1.Factor_Type{authv1.Factor_TOTP, authv1.Factor_RECOVERY_CODE}, resp.GetChallenge().GetMethods())
		session, err := w.verify(resp.GetChallenge().GetSignInToken(), phone.at(0))
		require.NoError(t, err)
		require.Equal(t, sessionv1.Session_SSO, session.GetFirstFactor())
		require.True(t, session.GetKeepMeLoggedIn())
	})
}

func TestSignInWithSSO_refused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.person("gone@example.com")
		require.NoError(t, errorOf(w.deactivate(asOperator(t.Context()), w.agentOf("gone@example.com"))))
		for name, change := range map[string]func(*authv1.SignInWithSSORequest){
			"unknown":         func(r *authv1.SignInWithSSORequest) { r.Email = "nobody@example.com" },
			"no address":      func(r *authv1.SignInWithSSORequest) { r.Email = "olga" },
			"another account": func(r *authv1.SignInWithSSORequest) { r.Account = "initech" },
			"no account":      func(r *authv1.SignInWithSSORequest) { r.Account = "accounts/acme" },
		} {
			_, err := w.sso(change)
			require.Equal(t, errs.ReasonResourceNotFound, errs.ReasonOf(err), name)
		}
		_, err := w.ssoAs("gone@example.com")
		testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonAgentDeactivated)
		for name, change := range map[string]func(*authv1.SignInWithSSORequest){
			"empty account": func(r *authv1.SignInWithSSORequest) { r.Account = "" },
			"empty address": func(r *authv1.SignInWithSSORequest) { r.Email = "" },
			"no client":     func(r *authv1.SignInWithSSORequest) { r.Client = 0 },
			"odd amr":       func(r *authv1.SignInWithSSORequest) { r.Amr = []string{"pwd otp"} },
			"much amr":      func(r *authv1.SignInWithSSORequest) { r.Amr = make([]string, 21) },
			"odd address":   func(r *authv1.SignInWithSSORequest) { r.ClientAddress = "here" },
		} {
			_, err := w.sso(change)
			require.Equal(t, errs.ReasonInvalidField, errs.ReasonOf(err), name)
		}
		s.policies.switchOff(true)
		_, err = w.ssoAs(ownerEmail)
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.policies.switchOff(false)
		s.sessions.onMake(func(context.Context) error { return errDown })
		_, err = w.ssoAs(ownerEmail)
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Zero(t, s.sessions.makes())

		// The platform alone vouches for people.
		req := &authv1.SignInWithSSORequest{Account: "acme", Email: ownerEmail, Client: sessionv1.Client_WEB}
		for _, identity := range []string{"gateway", "notifier", "session", "policy"} {
			_, err := authv1.NewSignInServiceClient(w.conn(identity)).SignInWithSSO(t.Context(), req)
			testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
		}
		_, err = w.signIns().SignInWithSSO(asOperator(t.Context()), req)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
	})
}

// Two first times at once, and a change in between, are one sign-in each.
func TestSignInWithSSO_inParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		ada := w.agent("ada@example.com", authv1.Agent_AGENT)
		results := reasons(atOnce(20, func(i int) error {
			if i == 7 {
				return w.setRole(asOperator(t.Context()), ada, authv1.Agent_ADMIN)
			}
			_, err := w.ssoAs("ada@example.com")
			return err
		}))
		require.Equal(t, map[string]int{"OK": 20}, results)
		require.Equal(t, authv1.Agent_ACTIVE, w.get(ada.GetName()).GetState())
	})
}
