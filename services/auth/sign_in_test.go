package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestSignIn_notEnforced_session(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		req := signInRequest()
		req.KeepMeLoggedIn, req.Client = true, sessionv1.Client_DESKTOP
		resp, err := w.signIns().SignIn(t.Context(), req)
		require.NoError(t, err)
		require.NotEmpty(t, resp.GetSession().GetToken())

		asked := s.sessions.lastMade()
		require.Equal(t, w.owner, asked.GetAgent())
		require.Equal(t, int64(1), asked.GetAgentVersion())
		require.Equal(t, sessionv1.Session_AAL1, asked.GetAssuranceLevel())
		require.Equal(t, sessionv1.Session_PASSWORD, asked.GetFirstFactor())
		require.Equal(t, sessionv1.Session_OWNER, asked.GetRole())
		require.True(t, asked.GetHasPassword())
		require.True(t, asked.GetKeepMeLoggedIn())
		require.Equal(t, sessionv1.Client_DESKTOP, asked.GetClient().GetKind())
		require.Contains(t, asked.GetClient().GetUserAgent(), "grpc-go")
		require.Equal(t, "acme", asked.GetEnforcement().GetAccount())
		require.Equal(t, int64(1), asked.GetEnforcement().GetRevision())
		require.False(t, asked.GetEnforcement().GetEnforced())
		require.WithinDuration(t, time.Now(), w.get(w.owner).GetLastSignInTime().AsTime(), time.Minute)
	})
}

func TestSignIn_enforced_setUpAndThenChallenge(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.enforce()
		required := w.signIn().GetEnrollmentRequired()
		require.Regexp(t, `^tfi1_[A-Za-z0-9_-]{43}$`, required.GetSignInToken())
		require.Equal(t, []authv1.Factor_Type{authv1.Factor_TOTP}, required.GetMethods())
		require.Equal(t, "MFA_SETUP_REQUIRED", required.GetPrompt().GetCode())
		require.NotEmpty(t, required.GetPrompt().GetTitle())
		require.NotEmpty(t, required.GetPrompt().GetMessage())
		require.WithinDuration(t, time.Now().Add(10*time.Minute), required.GetExpireTime().AsTime(), time.Minute)
		require.Zero(t, s.sessions.makes(), "no session before the set-up")

		phone, done := w.enrolled()
		require.Len(t, done.GetRecoveryCodes(), 10)
		require.Equal(t, "MFA_SETUP_COMPLETE", done.GetConfirmation().GetCode())
		require.Equal(t, sessionv1.Session_AAL2, done.GetSession().GetAssuranceLevel())
		asked := s.sessions.lastMade()
		require.Equal(t, int64(2), asked.GetAgentVersion())
		require.True(t, asked.GetEnforcement().GetEnforced())
		require.Equal(t, time.Hour, asked.GetEnforcement().GetGracePeriod().AsDuration())
		require.NotNil(t, asked.GetEnforcement().GetEnforceTime())
		require.Equal(t, int64(2), s.sessions.below(w.owner))
		require.Equal(t, authv1.Agent_SET_UP, w.get(w.owner).GetMfaState())

		challenge := w.signIn().GetChallenge()
		require.Equal(t, []authv1.Factor_Type{authv1.Factor_TOTP, authv1.Factor_RECOVERY_CODE}, challenge.GetMethods())
		session, err := w.verify(challenge.GetSignInToken(), phone.at(0))
		require.NoError(t, err)
		require.Equal(t, sessionv1.Session_AAL2, session.GetAssuranceLevel())
		_, err = w.verify(challenge.GetSignInToken(), phone.at(1))
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSignInExpired)

		w.background()
		event := eventOf(t, s.published(1)[0], &authv1.MFAEnrolled{})
		require.Equal(t, w.owner, event.GetAgent())
		require.Equal(t, int64(2), event.GetAgentVersion())
		require.False(t, event.GetReplaced())
		require.Empty(t, event.GetKeepSession())
	})
}
