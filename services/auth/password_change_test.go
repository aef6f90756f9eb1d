package auth_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func resetRequest(account, email string) *authv1.RequestPasswordResetRequest {
	return &authv1.RequestPasswordResetRequest{Account: account, Email: email}
}

// Whoever asks for whomever reads, and causes, the same.
func TestRequestPasswordReset_tellsNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.person("gone@example.com")
		w.person("sso@example.com")
		w.agent("invited@example.com", authv1.Agent_AGENT)
		s.exec(`UPDATE agents SET state = 'DEACTIVATED' WHERE email_key = 'gone@example.com'`)
		s.exec(`UPDATE agents SET has_password = FALSE, has_sso = TRUE WHERE email_key = 'sso@example.com'`)
		asked := map[string]*authv1.RequestPasswordResetRequest{
			"known": resetRequest("acme", ownerEmail), "known otherwise spelled": resetRequest("acme", "OLGA@example.COM"),
			"unknown": resetRequest("acme", "nobody@example.com"), "unknown account": resetRequest("initech", ownerEmail),
			"no account": resetRequest("Not An Account", ownerEmail), "no address": resetRequest("acme", "olga"),
			"deactivated": resetRequest("acme", "gone@example.com"), "by SSO alone": resetRequest("acme", "sso@example.com"),
			"invited": resetRequest("acme", "invited@example.com"),
		}
		answers := map[string]string{}
		for name, req := range asked {
			var header, trailer metadata.MD
			resp, err := w.signIns().RequestPasswordReset(t.Context(), req, grpc.Header(&header), grpc.Trailer(&trailer))
			require.NoError(t, err, name)
			delete(header, "twofold-request-id") // drawn for every call
			encoded, err := proto.Marshal(resp)
			require.NoError(t, err)
			answers[fmt.Sprintf("%x %v %v", encoded, header, trailer)] = name
		}
		require.Len(t, answers, 1, "%v", answers)
		require.Equal(t, int64(len(asked)), s.number(`SELECT count(*) FROM reset_requests`), "a row for everybody")
		require.Zero(t, s.number(`SELECT count(*) FROM links WHERE purpose = 'PASSWORD_RESET'`), "nothing is looked up by the call")

		w.background()
		require.Eventually(t, func() bool { return s.number(`SELECT count(*) FROM reset_requests`) == 0 }, 20*time.Second, 20*time.Millisecond)
		event := ofKind(s, 1, func() *authv1.PasswordResetRequested { return &authv1.PasswordResetRequested{} })[0]
		require.Equal(t, w.owner, event.GetAgent())
		require.WithinDuration(t, time.Now(), event.GetRequestTime().AsTime(), time.Minute)
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM links WHERE purpose = 'PASSWORD_RESET'`))
	})
}

func TestRequestPasswordReset_takesAsLongForNobody(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.background()
	var known, unknown []time.Duration
	took := func(email string) time.Duration {
		began := time.Now()
		_, err := w.signIns().RequestPasswordReset(t.Context(), resetRequest("acme", email))
		require.NoError(t, err)
		return time.Since(began)
	}
	for range 200 {
		known = append(known, took(ownerEmail))
		unknown = append(unknown, took("nobody@example.com"))
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2])
	}
	require.InEpsilon(t, median(known), median(unknown), 0.5)
}

func TestRequestPasswordReset_refused(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	for _, req := range []*authv1.RequestPasswordResetRequest{resetRequest("", ownerEmail), resetRequest("acme", "")} {
		_, err := w.signIns().RequestPasswordReset(t.Context(), req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
}

// Nobody fills somebody's mailbox: a few mails in an hour, and no word about it.
func TestRequestPasswordReset_mailsAreFew(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		for range 5 {
			w.forget(ownerEmail)
		}
		events := ofKind(s, 3, func() *authv1.PasswordResetRequested { return &authv1.PasswordResetRequested{} })
		require.Len(t, events, 3)
		require.NoError(t, w.reset(w.link(w.owner, toReset), newPassword), "the third still works")
		s.exec(`UPDATE reset_mails SET window_time = ?`, time.Now().Add(-61*time.Minute).UnixMicro())
		w.forget(ownerEmail)
		ofKind(s, 4, func() *authv1.PasswordResetRequested { return &authv1.PasswordResetRequested{} })
	})
}

// A new password by mail is a new password and nothing else: no session, and the
// second factor asks as before.
func TestResetPassword_leavesTheSecondFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		phone, done := w.enrolled()
		waiting := w.challenge()
		w.forget(ownerEmail)
		token, made := w.link(w.owner, toReset), s.sessions.makes()
		issued, err := w.mailed(w.owner, toReset, s.promised(w.owner, toReset))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(30*time.Minute), issued.GetExpireTime().AsTime(), time.Minute)

		require.NoError(t, w.reset(token, newPassword))
		require.Nil(t, s.sessions.byToken(done.GetSession().GetToken()), "ended before the answer")
		require.Equal(t, int64(3), s.sessions.below(w.owner))
		require.Equal(t, made, s.sessions.makes(), "nobody is signed in by it")
		_, err = w.verify(waiting, phone.at(0))
		requireSignInExpired(t, err)

		after := w.get(w.owner)
		require.Equal(t, authv1.Agent_SET_UP, after.GetMfaState())
		require.Equal(t, int64(10), s.number(`SELECT count(*) FROM recovery_codes`))
		_, err = w.tryPassword(ownerEmail, goodPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
		next, err := w.tryPassword(ownerEmail, newPassword)
		require.NoError(t, err)
		session, err := w.verify(next.GetChallenge().GetSignInToken(), phone.at(1))
		require.NoError(t, err)
		require.NotEmpty(t, session.GetToken())

		event := ofKind(s, 1, func() *authv1.PasswordChanged { return &authv1.PasswordChanged{} })[0]
		require.Equal(t, authv1.PasswordChanged_RESET, event.GetCause())
		require.Equal(t, after.GetVersion(), event.GetAgentVersion())
		require.Empty(t, event.GetKeepSession())
	})
}

// What is stored stays when the sessions cannot be ended at once, and the answer
// does not claim otherwise.
func TestPasswords_sessionServiceDown(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		w.forget(ownerEmail)
		token := w.link(w.owner, toReset)
		s.sessions.onRevoke(func(context.Context) error { return errDown })
		err := w.reset(token, newPassword)
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.ErrorContains(t, err, "was changed")
		signedIn, err := w.tryPassword(ownerEmail, newPassword)
		require.NoError(t, err)
		m := w.me(signedIn.GetSession())
		_, err = w.profile().ChangePassword(m.ctx(), &authv1.ChangePasswordRequest{CurrentPassword: newPassword, NewPassword: goodPassword})
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.sessions.onRevoke(nil)
		require.NotEmpty(t, w.signIn().GetSession().GetToken())
		ofKind(s, 2, func() *authv1.PasswordChanged { return &authv1.PasswordChanged{} })
	})
}

func (m *me) changePassword(current, next string) error {
	_, err := m.profile().ChangePassword(m.ctx(), &authv1.ChangePasswordRequest{CurrentPassword: current, NewPassword: next})
	return err
}

func TestChangePassword_endsTheOtherSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.background()
		m, other := w.me(w.signIn().GetSession()), w.signIn().GetSession()
		require.NoError(t, m.changePassword(goodPassword, newPassword))
		require.Nil(t, s.sessions.byToken(other.GetToken()), "ended before the answer")
		require.NotNil(t, s.sessions.byToken(m.session.GetToken()), "the session that asks stays")
		m.show()
		_, err := w.tryPassword(ownerEmail, goodPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
		_, err = w.tryPassword(ownerEmail, newPassword)
		require.NoError(t, err)
		event := ofKind(s, 1, func() *authv1.PasswordChanged { return &authv1.PasswordChanged{} })[0]
		require.Equal(t, authv1.PasswordChanged_CHANGED, event.GetCause())
		require.Equal(t, m.session.GetName(), event.GetKeepSession())
		require.Equal(t, int64(2), event.GetAgentVersion())
	})
}

func TestChangePassword_refused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		m := w.me(w.signIn().GetSession())
		for _, err := range []error{m.changePassword("", newPassword), m.changePassword(goodPassword, "")} {
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		}
		testkit.RequireError(t, m.changePassword(goodPassword, "short"), codes.InvalidArgument, errs.ReasonPasswordUnacceptable)
		_, err := w.profile().ChangePassword(t.Context(), &authv1.ChangePasswordRequest{CurrentPassword: goodPassword, NewPassword: newPassword})
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)

		// Guesses are counted where those at sign-in are.
		for range 10 {
			err := m.changePassword("not the password", newPassword)
			testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
			require.ErrorContains(t, err, "current password")
		}
		testkit.RequireError(t, m.changePassword(goodPassword, newPassword), codes.ResourceExhausted, errs.ReasonTooManyAttempts)
		s.exec(`DELETE FROM password_failures`)

		s.exec(`UPDATE agents SET has_password = FALSE, has_sso = TRUE`)
		testkit.RequireError(t, m.changePassword(goodPassword, newPassword), codes.FailedPrecondition, errs.ReasonPasswordNotSet)
		s.exec(`UPDATE agents SET has_password = TRUE, state = 'DEACTIVATED'`)
		testkit.RequireError(t, m.changePassword(goodPassword, newPassword), codes.Unauthenticated, errs.ReasonSessionRevoked)
		require.Equal(t, int64(1), w.get(w.owner).GetVersion())
	})
}

// With a factor set up it takes a fresh one.
func TestChangePassword_needsAFreshFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		m := w.me(done.GetSession())
		s.clock.advance(6 * time.Minute)
		s.clock.atStep(0)
		requireStepUp(t, m.changePassword(goodPassword, newPassword))
		require.NoError(t, m.verifyCode(phone.at(0)))
		require.NoError(t, m.changePassword(goodPassword, newPassword))
		require.Equal(t, authv1.Agent_SET_UP, w.get(w.owner).GetMfaState())
		m.show()
	})
}
