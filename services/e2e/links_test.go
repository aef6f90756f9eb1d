package e2e

import (
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// linkIn waits for the n-th mail of a kind to an address and returns its link.
func (v running) linkIn(t *testing.T, address, kind string, n int) *url.URL {
	t.Helper()
	var text string
	require.Eventually(t, func() bool {
		mails, err := v.mail(t.Context(), address)
		require.NoError(t, err)
		found := 0
		for _, mail := range mails {
			if mail.Kind == kind {
				found++
				text = mail.Text
			}
		}
		return found == n
	}, 30*time.Second, 20*time.Millisecond, "%s to %s", kind, address)
	link, err := url.Parse(regexp.MustCompile(`https?://\S+`).FindString(text))
	require.NoError(t, err)
	return link
}

// token is what the page behind the link sends on.
func token(t *testing.T, link *url.URL) string {
	t.Helper()
	fragment, err := url.ParseQuery(link.Fragment)
	require.NoError(t, err)
	require.NotEmpty(t, fragment.Get("token"), link.Path)
	return fragment.Get("token")
}

// People come by a mail, forget their password, and go, on the whole suite: the
// links in the mails are good once, and the second factor outlives it all.
func TestLinks_fromMailToMail(t *testing.T) {
	v := startAllInOne(t)
	operator := bearer(t.Context(), operatorToken)
	accounts, agents := authv1.NewAccountServiceClient(v.connect("auth")), authv1.NewAgentServiceClient(v.connect("auth"))
	signIns := authv1.NewSignInServiceClient(v.connect("auth"))
	const email = "ivy@coming.example"

	_, err := accounts.CreateAccount(operator, &authv1.CreateAccountRequest{
		AccountId: "coming", DisplayName: "Coming and Going", Owner: &authv1.CreateAccountRequest_Owner{Email: email, DisplayName: "Ivy"},
	})
	require.NoError(t, err)
	invitation := v.linkIn(t, email, "INVITATION", 1)
	require.Equal(t, "/accept-invitation", invitation.Path)
	require.Equal(t, "coming", invitation.Query().Get("account"))
	_, err = signIns.AcceptInvitation(t.Context(), &authv1.AcceptInvitationRequest{Token: token(t, invitation), Password: password})
	require.NoError(t, err)
	_, err = signIns.AcceptInvitation(t.Context(), &authv1.AcceptInvitationRequest{Token: token(t, invitation), Password: password})
	require.Equal(t, "LINK_EXPIRED", reasonOf(err))
	v.linkIn(t, email, "PASSWORD_CHANGED", 1)

	v.setUp(t, "coming", email)
	_, err = signIns.RequestPasswordReset(t.Context(), &authv1.RequestPasswordResetRequest{Account: "coming", Email: email})
	require.NoError(t, err)
	forgotten := v.linkIn(t, email, "PASSWORD_RESET", 1)
	require.Equal(t, "/reset-password", forgotten.Path)
	_, err = signIns.ResetPassword(t.Context(), &authv1.ResetPasswordRequest{Token: token(t, forgotten), Password: "quite another password"})
	require.NoError(t, err)
	v.linkIn(t, email, "PASSWORD_CHANGED", 2)
	_, err = signIns.ResetPassword(t.Context(), &authv1.ResetPasswordRequest{Token: token(t, forgotten), Password: password})
	require.Equal(t, "LINK_EXPIRED", reasonOf(err))
	next, err := signIns.SignIn(t.Context(), &authv1.SignInRequest{
		Account: "coming", Email: email, Password: "quite another password", Client: sessionv1.Client_WEB,
	})
	require.NoError(t, err)
	require.NotEmpty(t, next.GetChallenge().GetSignInToken(), "the second factor is still asked for")

	// An agent who works, moves, and is kept out.
	made, err := agents.CreateAgent(operator, &authv1.CreateAgentRequest{
		Parent: "accounts/coming", Email: "abe@coming.example", DisplayName: "Abe", Password: password,
	})
	require.NoError(t, err)
	session := v.signIn(t, "coming", "abe@coming.example", sessionv1.Client_DESKTOP)
	_, err = agents.UpdateAgent(operator, &authv1.UpdateAgentRequest{
		Agent: &authv1.Agent{Name: made.GetAgent().GetName(), Email: "abe@elsewhere.example"},
	})
	require.NoError(t, err)
	v.linkIn(t, "abe@coming.example", "EMAIL_CHANGED", 1)
	profile := authv1.NewProfileServiceClient(v.connect("auth"))
	_, err = profile.GetMe(bearer(t.Context(), session), &authv1.GetMeRequest{})
	require.NoError(t, err, "a new address signs nobody out")
	_, err = agents.DeactivateAgent(operator, &authv1.DeactivateAgentRequest{Name: made.GetAgent().GetName()})
	require.NoError(t, err)
	_, err = profile.GetMe(bearer(t.Context(), session), &authv1.GetMeRequest{})
	require.Equal(t, "SESSION_REVOKED", reasonOf(err))
}

// A change of password in the profile keeps the session that asks, on the real
// session service, and ends the other one.
func TestChangePassword_onTheWholeSuite(t *testing.T) {
	v := startAllInOne(t)
	_, err := authv1.NewAccountServiceClient(v.connect("auth")).CreateAccount(bearer(t.Context(), operatorToken), &authv1.CreateAccountRequest{
		AccountId: "moving", DisplayName: "Moving", Owner: &authv1.CreateAccountRequest_Owner{
			Email: "mo@moving.example", DisplayName: "Mo", Password: password,
		},
	})
	require.NoError(t, err)
	here := v.signIn(t, "moving", "mo@moving.example", sessionv1.Client_WEB)
	there := v.signIn(t, "moving", "mo@moving.example", sessionv1.Client_MOBILE)
	profile := authv1.NewProfileServiceClient(v.connect("auth"))
	change := func(current, next string) error {
		_, err := profile.ChangePassword(bearer(t.Context(), here), &authv1.ChangePasswordRequest{CurrentPassword: current, NewPassword: next})
		return err
	}
	require.NoError(t, change(password, "the second password"))
	require.NoError(t, change("the second password", password), "also twice in one session")
	_, err = profile.GetMe(bearer(t.Context(), here), &authv1.GetMeRequest{})
	require.NoError(t, err)
	_, err = profile.GetMe(bearer(t.Context(), there), &authv1.GetMeRequest{})
	require.Equal(t, "SESSION_REVOKED", reasonOf(err))
	v.linkIn(t, "mo@moving.example", "PASSWORD_CHANGED", 2)
	// The event that ends sessions once more has left the one that stays alone.
	_, err = profile.GetMe(bearer(t.Context(), here), &authv1.GetMeRequest{})
	require.NoError(t, err)
}
