package auth_test

import (
	"context"
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

// me is somebody who is signed in.
type me struct {
	*world
	session *sessionv1.Session
}

func (w *world) me(session *sessionv1.Session) *me { return &me{world: w, session: session} }

func (m *me) ctx() context.Context { return with(m.t.Context(), m.session.GetToken()) }

// verifyCode verifies a code and goes on with the new session.
func (m *me) verifyCode(code string) error {
	resp, err := m.profile().VerifyFactor(m.ctx(), &authv1.VerifyFactorRequest{
		Answer: &authv1.VerifyFactorRequest_TotpCode{TotpCode: code},
	})
	if err == nil {
		m.session = resp.GetSession()
	}
	return err
}

func (m *me) begin() (*phone, string, error) {
	resp, err := m.profile().BeginEnrollment(m.ctx(), &authv1.BeginEnrollmentRequest{})
	if err != nil {
		return nil, "", err
	}
	return m.phone(resp.GetEnrollment().GetSecret()), resp.GetEnrollment().GetEnrollmentId(), nil
}

func (m *me) confirm(id, code string) (*authv1.ConfirmEnrollmentResponse, error) {
	resp, err := m.profile().ConfirmEnrollment(m.ctx(), &authv1.ConfirmEnrollmentRequest{EnrollmentId: id, Code: code})
	if err == nil {
		m.session = resp.GetSession()
	}
	return resp, err
}

func (m *me) regenerate() ([]string, error) {
	resp, err := m.profile().RegenerateRecoveryCodes(m.ctx(), &authv1.RegenerateRecoveryCodesRequest{})
	return resp.GetRecoveryCodes(), err
}

func (m *me) remove(factor string) error {
	_, err := m.profile().DeleteFactor(m.ctx(), &authv1.DeleteFactorRequest{Factor: factor})
	return err
}

func (m *me) show() *authv1.GetMeResponse {
	m.t.Helper()
	resp, err := m.profile().GetMe(m.ctx(), &authv1.GetMeRequest{})
	require.NoError(m.t, err)
	return resp
}

// factor returns the bare id of the one factor there is.
func (m *me) factor() string {
	m.t.Helper()
	factors := m.show().GetFactors()
	require.Len(m.t, factors, 1)
	return factors[0].GetName()[len(m.owner+"/factors/"):]
}

func requireStepUp(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonStepUpRequired)
}

func requireNotSetUp(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonFactorNotSetUp)
}

func TestGetMe(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		m := w.me(w.signIn().GetSession())
		got := m.show()
		require.Equal(t, w.owner, got.GetAgent().GetName())
		require.Equal(t, authv1.Agent_NOT_SET_UP, got.GetAgent().GetMfaState())
		require.Equal(t, m.session.GetName(), got.GetSession().GetName())
		require.Empty(t, got.GetSession().GetToken())
		require.True(t, got.GetSession().GetCurrent())
		require.Empty(t, got.GetFactors())
		require.Zero(t, got.GetRecoveryCodesLeft())
		require.False(t, got.GetEnforcement().GetEnforced())
		require.Nil(t, got.GetEnforcement().GetSessionRevokeTime())

		w.enforce()
		got = m.show()
		require.True(t, got.GetEnforcement().GetEnforced())
		require.WithinDuration(t, time.Now().Add(time.Hour), got.GetEnforcement().GetSessionRevokeTime().AsTime(), time.Minute)

		_, done := w.enrolled()
		m = w.me(done.GetSession())
		got = m.show()
		require.Equal(t, authv1.Agent_SET_UP, got.GetAgent().GetMfaState())
		require.Len(t, got.GetFactors(), 1)
		require.Equal(t, authv1.Factor_TOTP, got.GetFactors()[0].GetType())
		require.Contains(t, got.GetFactors()[0].GetName(), w.owner+"/factors/")
		require.NotNil(t, got.GetFactors()[0].GetCreateTime())
		require.NotNil(t, got.GetFactors()[0].GetLastUseTime())
		require.Equal(t, int32(10), got.GetRecoveryCodesLeft())

		// Left to the identity provider, unless the policy says otherwise.
		s.exec(`UPDATE agents SET has_sso = TRUE, has_password = FALSE`)
		require.False(t, m.show().GetEnforcement().GetEnforced())
		s.policies.set(enforcement.Settings{Enforced: true, ApplyToSSO: true}, time.Now())
		require.True(t, m.show().GetEnforcement().GetEnforced())
	})
}

func TestGetMe_refused(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	m := w.me(w.signIn().GetSession())
	getMe := func() error {
		_, err := w.profile().GetMe(m.ctx(), &authv1.GetMeRequest{})
		return err
	}
	w.s.policies.switchOff(true)
	testkit.RequireError(t, getMe(), codes.Unavailable, errs.ReasonDependencyUnavailable)
	w.s.policies.switchOff(false)
	w.s.sessions.onMake(func(context.Context) error { return errDown })
	testkit.RequireError(t, getMe(), codes.Unavailable, errs.ReasonDependencyUnavailable)
	w.s.sessions.onMake(func(context.Context) error {
		return errs.New(codes.Unauthenticated, errs.ReasonSessionEndedByMFAPolicy, "Over.")
	})
	testkit.RequireError(t, getMe(), codes.Unauthenticated, errs.ReasonSessionEndedByMFAPolicy)
	w.s.sessions.onMake(nil)
	w.s.exec(`UPDATE agents SET state = 'DEACTIVATED'`)
	testkit.RequireError(t, getMe(), codes.Unauthenticated, errs.ReasonSessionRevoked)
	_, err := w.profile().GetMe(t.Context(), &authv1.GetMeRequest{})
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

// Anybody may set up a factor unasked. The session goes on with a new token and a
// second factor; the others end.
func TestProfileEnrollment_firstFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		s.clock.atStep(0)
		m, other := w.me(w.signIn().GetSession()), w.signIn().GetSession()
		old := m.session
		phone, id, err := m.begin()
		require.NoError(t, err)
		_, err = m.confirm(id, "1234567")
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonTOTPCodeMalformed)
		_, err = m.confirm(id, phone.wrong())
		requireIncorrect(t, err)
		_, err = w.me(other).confirm(id, phone.at(0))
		requireEnrollmentExpired(t, err)
		done, err := m.confirm(id, phone.at(0))
		require.NoError(t, err)
		require.Len(t, done.GetRecoveryCodes(), 10)
		require.Equal(t, "MFA_SETUP_COMPLETE", done.GetConfirmation().GetCode())
		require.Equal(t, sessionv1.Session_AAL2, done.GetSession().GetAssuranceLevel())
		require.NotEqual(t, old.GetToken(), done.GetSession().GetToken())
		require.Nil(t, s.sessions.byToken(old.GetToken()))
		require.Nil(t, s.sessions.byToken(other.GetToken()))
		require.NotNil(t, s.sessions.byToken(done.GetSession().GetToken()))
		require.Equal(t, int64(2), s.sessions.below(w.owner))

		// The code of the set-up opens nothing else.
		_, err = w.verify(w.challenge(), phone.at(0))
		requireIncorrect(t, err)
		requireIncorrect(t, m.verifyCode(phone.at(0)))

		w.background()
		event := eventOf(t, s.published(1)[0], &authv1.MFAEnrolled{})
		require.Equal(t, old.GetName(), event.GetKeepSession(), "the name it had when it was decided")
		require.False(t, event.GetReplaced())
	})
}

// The new factor is proven before the old one goes.
func TestProfileEnrollment_replaced(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		m := w.me(done.GetSession())
		first := m.factor()
		since := m.show().GetAgent().GetMfaStateTime()
		next, id, err := m.begin()
		require.NoError(t, err)
		_, err = w.verify(w.challenge(), phone.at(0))
		require.NoError(t, err, "still the old one")
		again, err := m.confirm(id, next.at(0))
		require.NoError(t, err)
		require.NotEqual(t, first, m.factor())
		require.Equal(t, since.AsTime(), m.show().GetAgent().GetMfaStateTime().AsTime())
		require.Equal(t, int64(10), s.number(`SELECT count(*) FROM recovery_codes`))

		_, err = w.verify(w.challenge(), phone.at(1))
		requireIncorrect(t, err)
		err = w.recover(w.challenge(), done.GetRecoveryCodes()[0])
		requireIncorrect(t, err)
		err = w.recover(w.challenge(), again.GetRecoveryCodes()[0])
		require.NoError(t, err)
		s.clock.atStep(1)
		_, err = w.verify(w.challenge(), next.at(0))
		require.NoError(t, err)

		w.background()
		require.True(t, eventOf(t, s.published(3)[1], &authv1.MFAEnrolled{}).GetReplaced())
	})
}

// With a factor set up, a stolen session alone changes nothing.
func TestProfile_staleFactor_stepUp(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		m := w.me(done.GetSession())
		factor := m.factor()
		_, begun, err := m.begin()
		require.NoError(t, err)

		s.clock.advance(5*time.Minute + time.Second)
		s.clock.atStep(0)
		_, _, err = m.begin()
		requireStepUp(t, err)
		_, err = m.confirm(begun, phone.at(0))
		requireStepUp(t, err)
		requireStepUp(t, m.remove(factor))
		requireStepUp(t, m.remove("x"))
		_, err = m.regenerate()
		requireStepUp(t, err)
		require.Equal(t, factor, m.factor())

		old := m.session.GetToken()
		require.NoError(t, m.verifyCode(phone.at(0)))
		require.NotEqual(t, old, m.session.GetToken())
		require.Nil(t, s.sessions.byToken(old), "the old token is over")
		_, err = m.regenerate()
		require.NoError(t, err)
		requireIncorrect(t, m.verifyCode(phone.at(0)))
		_, err = w.verify(w.challenge(), phone.at(0))
		requireIncorrect(t, err)
	})
}

// Somebody who is asked for the old factor in the middle of setting up a new one
// goes on with what they began.
func TestProfileEnrollment_stepUpMeanwhile(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	m := w.me(done.GetSession())
	next, id, err := m.begin()
	require.NoError(t, err)
	w.s.clock.advance(6 * time.Minute)
	w.s.clock.atStep(0)
	_, err = m.confirm(id, next.at(0))
	requireStepUp(t, err)
	require.NoError(t, m.verifyCode(phone.at(0)))
	_, err = m.confirm(id, next.at(0))
	require.NoError(t, err)
}

// Freshness that was proven in another session is not this one's.
func TestProfile_freshElsewhere_stepUp(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	stale := w.me(done.GetSession())
	w.s.clock.advance(6 * time.Minute)
	w.s.clock.atStep(0)
	_, err := w.verify(w.challenge(), phone.at(0))
	require.NoError(t, err)
	_, err = stale.regenerate()
	requireStepUp(t, err)
	// Nor is a time that nobody can have reached yet.
	w.s.clock.advance(-time.Hour)
	_, err = stale.regenerate()
	requireStepUp(t, err)
}

func TestVerifyFactor_refused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		none := w.me(w.signIn().GetSession())
		requireNotSetUp(t, none.verifyCode("123456"))
		_, err := none.regenerate()
		requireNotSetUp(t, err)
		testkit.RequireError(t, none.remove("x"), codes.NotFound, errs.ReasonResourceNotFound)

		phone, done := w.enrolled()
		m := w.me(done.GetSession())
		testkit.RequireError(t, m.verifyCode(" "+phone.at(0)), codes.InvalidArgument, errs.ReasonTOTPCodeMalformed)
		_, err = w.profile().VerifyFactor(m.ctx(), &authv1.VerifyFactorRequest{})
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		recovery := func(code string) error {
			resp, err := w.profile().VerifyFactor(m.ctx(), &authv1.VerifyFactorRequest{
				Answer: &authv1.VerifyFactorRequest_RecoveryCode{RecoveryCode: code},
			})
			if err == nil {
				m.session = resp.GetSession()
			}
			return err
		}
		testkit.RequireError(t, recovery("x"), codes.InvalidArgument, errs.ReasonRecoveryCodeMalformed)
		require.NoError(t, recovery(done.GetRecoveryCodes()[0]))
		requireIncorrect(t, recovery(done.GetRecoveryCodes()[0]))

		// One budget with the sign-in.
		token := w.challenge()
		for range 4 {
			_, err := w.verify(token, phone.wrong())
			requireIncorrect(t, err)
		}
		for range 5 {
			requireIncorrect(t, m.verifyCode(phone.wrong()))
		}
		requireTooMany(t, m.verifyCode(phone.at(0)))
		_, err = w.verify(token, phone.at(0))
		requireTooMany(t, err)

		// Outages count nothing.
		w.cooledDown()
		s.policies.switchOff(true)
		testkit.RequireError(t, m.verifyCode(phone.wrong()), codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.policies.switchOff(false)
		require.Equal(t, int64(10), w.failures("FACTOR"))
	})
}

func TestVerifyFactor_sessionEndsMeanwhile(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	m := w.me(done.GetSession())
	w.s.sessions.onMake(func(context.Context) error {
		return errs.New(codes.Aborted, errs.ReasonAgentVersionStale, "Stale.")
	})
	testkit.RequireError(t, m.verifyCode(phone.at(0)), codes.Unauthenticated, errs.ReasonSessionRevoked)
	w.s.sessions.onMake(func(context.Context) error {
		return errs.New(codes.Unauthenticated, errs.ReasonSessionExpired, "Over.")
	})
	testkit.RequireError(t, m.verifyCode(phone.at(1)), codes.Unauthenticated, errs.ReasonSessionExpired)
	w.s.clock.atStep(2)
	w.s.sessions.onMake(func(context.Context) error { return errDown })
	testkit.RequireError(t, m.verifyCode(phone.at(0)), codes.Unavailable, errs.ReasonDependencyUnavailable)
	w.s.sessions.onMake(nil)
	w.lift()
	w.s.sessions.knows(99)
	testkit.RequireError(t, m.verifyCode(phone.at(1)), codes.Unavailable, errs.ReasonDependencyUnavailable)
}

func TestDeleteFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		m := w.me(done.GetSession())
		other, err := w.verify(w.challenge(), phone.at(0))
		require.NoError(t, err)
		factor := m.factor()
		testkit.RequireError(t, m.remove("other"), codes.NotFound, errs.ReasonResourceNotFound)
		testkit.RequireError(t, m.remove(factor), codes.FailedPrecondition, errs.ReasonLastFactorProtected)
		require.Equal(t, factor, m.factor())

		// Whether it is protected cannot be read: then it is.
		w.lift()
		s.policies.switchOff(true)
		testkit.RequireError(t, m.remove(factor), codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.policies.switchOff(false)
		require.Equal(t, factor, m.factor())

		waiting := w.challenge()
		require.NoError(t, m.remove(factor))
		require.Equal(t, authv1.Agent_NOT_SET_UP, w.get(w.owner).GetMfaState())
		require.Zero(t, s.number(`SELECT count(*) FROM recovery_codes`)+s.number(`SELECT count(*) FROM factors`))
		require.Nil(t, s.sessions.byToken(other.GetToken()))
		kept := s.sessions.byToken(m.session.GetToken())
		require.NotNil(t, kept, "the session that asks stays")
		require.Equal(t, sessionv1.Session_AAL1, kept.GetAssuranceLevel(), "but nobody has a second factor in it any more")
		require.Empty(t, m.show().GetFactors())
		_, err = w.verify(waiting, phone.at(1))
		requireSignInExpired(t, err)
		testkit.RequireError(t, m.remove(factor), codes.NotFound, errs.ReasonResourceNotFound)
		require.NotEmpty(t, w.signIn().GetSession().GetToken())

		w.background()
		event := eventOf(t, s.published(2)[1], &authv1.FactorRemoved{})
		require.Equal(t, w.owner+"/factors/"+factor, event.GetFactor())
		require.Equal(t, int64(3), event.GetAgentVersion())
		require.Equal(t, m.session.GetName(), event.GetKeepSession())
	})
}

func TestDeleteFactor_sessionsLeft_unavailable(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	_, done := w.enrolled()
	w.lift()
	m := w.me(done.GetSession())
	factor := m.factor()
	w.s.sessions.onRevoke(func(context.Context) error { return errDown })
	testkit.RequireError(t, m.remove(factor), codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Empty(t, m.show().GetFactors(), "it is removed all the same, and the event is on its way")
}

// The session service has not heard yet that a session was ended, or raised. Until
// it has, the session must neither verify nor set up nor change anything: its next
// step could be a new factor of somebody else's.
func TestProfile_sessionOfAnotherVersion_changesNothing(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	_, done := w.enrolled()
	m := w.me(done.GetSession())
	// Down, so that the reset ends no session.
	w.s.sessions.onRevoke(func(context.Context) error { return errDown })
	_, err := w.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.NotNil(t, w.s.sessions.byToken(m.session.GetToken()))

	_, _, beginning := m.begin()
	_, regenerating := m.regenerate()
	_, changing := m.profile().ChangePassword(m.ctx(), &authv1.ChangePasswordRequest{
		CurrentPassword: goodPassword, NewPassword: goodPassword + " anew",
	})
	for what, err := range map[string]error{
		"begin": beginning, "verify": m.verifyCode("123456"), "regenerate": regenerating, "change password": changing,
	} {
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.ErrorContains(t, err, "changed elsewhere", what)
	}
	require.Zero(t, w.s.number(`SELECT count(*) FROM enrollments`))
}

func TestRegenerateRecoveryCodes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		_, done := w.enrolled()
		m := w.me(done.GetSession())
		s.exec(`INSERT INTO factor_failures (agent_id, kind, failures, blocked_time) SELECT id, 'RECOVERY_CODE', 100, 0 FROM agents`)
		err := w.recover(w.challenge(), done.GetRecoveryCodes()[0])
		requireTooMany(t, err)
		fresh, err := m.regenerate()
		require.NoError(t, err)
		require.Len(t, fresh, 10)
		require.NotContains(t, fresh, done.GetRecoveryCodes()[0])
		err = w.recover(w.challenge(), done.GetRecoveryCodes()[0])
		requireIncorrect(t, err)
		err = w.recover(w.challenge(), fresh[0])
		require.NoError(t, err)
		require.Equal(t, int32(9), m.show().GetRecoveryCodesLeft())
	})
}

// A reset ends a set-up that was begun from the profile, too.
func TestProfileEnrollment_resetMeanwhile(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.s.clock.atStep(0)
	m := w.me(w.signIn().GetSession())
	phone, id, err := m.begin()
	require.NoError(t, err)
	w.s.sessions.onRevoke(func(context.Context) error { return errDown }) // so that the session lives on
	_, err = w.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	_, err = m.confirm(id, phone.at(0))
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Zero(t, w.s.number(`SELECT count(*) FROM enrollments`)+w.s.number(`SELECT count(*) FROM factors`))
}

func TestProfileEnrollment_sessionServiceDown(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.s.clock.atStep(0)
	m := w.me(w.signIn().GetSession())
	phone, id, err := m.begin()
	require.NoError(t, err)
	w.s.policies.switchOff(true)
	_, err = m.confirm(id, phone.at(0))
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	w.s.policies.switchOff(false)
	w.s.sessions.onMake(func(context.Context) error { return errDown })
	_, err = m.confirm(id, phone.at(0))
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	w.s.sessions.onMake(nil)
	// It is set up; the session stays and is proven by the next code.
	require.Len(t, m.show().GetFactors(), 1)
	require.NoError(t, m.verifyCode(phone.at(1)))
	_, err = m.regenerate()
	require.NoError(t, err)
}
