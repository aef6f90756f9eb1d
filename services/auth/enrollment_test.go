package auth_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// begin begins the set-up that a sign-in requires.
func (w *world) begin(token string) (*phone, *authv1.Enrollment) {
	w.t.Helper()
	begun, err := w.signIns().BeginSignInEnrollment(w.t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: token})
	require.NoError(w.t, err)
	return w.phone(begun.GetEnrollment().GetSecret()), begun.GetEnrollment()
}

func (w *world) confirm(token, id, code string) error {
	_, err := w.signIns().ConfirmSignInEnrollment(w.t.Context(), &authv1.ConfirmSignInEnrollmentRequest{
		SignInToken: token, EnrollmentId: id, Code: code,
	})
	return err
}

func requireEnrollmentExpired(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonEnrollmentExpired)
}

// required begins a sign-in that requires a set-up.
func (w *world) required() string {
	w.t.Helper()
	w.enforce()
	w.s.clock.atStep(0)
	token := w.signIn().GetEnrollmentRequired().GetSignInToken()
	require.NotEmpty(w.t, token)
	return token
}

func TestSignInEnrollment_shown(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	token := w.required()
	_, shown := w.begin(token)
	require.Regexp(t, `^[A-Z2-7]{32}$`, shown.GetSecret())
	uri, err := url.Parse(shown.GetOtpauthUri())
	require.NoError(t, err)
	require.Equal(t, "otpauth", uri.Scheme)
	require.Equal(t, "/Twofold:Olga@example.com", uri.Path)
	require.Equal(t, shown.GetSecret(), uri.Query().Get("secret"))
	require.Equal(t, "\x89PNG", string(shown.GetQrPng()[:4]))
	require.False(t, shown.GetExpireTime().AsTime().After(w.signInExpires()), "of no use after the sign-in")
}

// signInExpires returns when the one sign-in there is does.
func (w *world) signInExpires() time.Time {
	return time.UnixMicro(w.s.number(`SELECT expire_time FROM sign_ins`))
}

// Until a code was right, nothing is set up; and what was begun again is void.
func TestSignInEnrollment_begunAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		token := w.required()
		first, one := w.begin(token)
		require.Equal(t, authv1.Agent_NOT_SET_UP, w.get(w.owner).GetMfaState())
		second, two := w.begin(token)
		require.NotEqual(t, one.GetSecret(), two.GetSecret())
		requireEnrollmentExpired(t, w.confirm(token, one.GetEnrollmentId(), first.at(0)))
		requireIncorrect(t, w.confirm(token, two.GetEnrollmentId(), first.at(0)))
		require.NotEmpty(t, w.signIn().GetEnrollmentRequired(), "an abandoned set-up changes nothing")
		for _, n := range []int64{-2, 2} {
			requireIncorrect(t, w.confirm(token, two.GetEnrollmentId(), second.at(n)))
		}
		err := w.confirm(token, two.GetEnrollmentId(), "12345")
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonTOTPCodeMalformed)
		require.NoError(t, w.confirm(token, two.GetEnrollmentId(), second.at(0)))
		requireSignInExpired(t, w.confirm(token, two.GetEnrollmentId(), second.at(1)))
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM factors`))
		require.Zero(t, s.number(`SELECT count(*) FROM enrollments`)+s.number(`SELECT count(*) FROM sign_ins`))
		require.Zero(t, w.failures("ENROLLMENT"))
	})
}

// A set-up belongs to the sign-in it was begun in, and lasts ten minutes.
func TestSignInEnrollment_boundAndLimited(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	token := w.required()
	phone, begun := w.begin(token)
	other := w.signIn().GetEnrollmentRequired().GetSignInToken()
	requireEnrollmentExpired(t, w.confirm(other, begun.GetEnrollmentId(), phone.at(0)))
	w.s.exec(`UPDATE enrollments SET expire_time = ?`, time.Now().UnixMicro())
	requireEnrollmentExpired(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))

	// Somebody else's.
	w.person("ann@example.com")
	anns := w.signInAs("ann@example.com").GetEnrollmentRequired().GetSignInToken()
	phone, begun = w.begin(anns)
	requireEnrollmentExpired(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))
}

func TestSignInEnrollment_wrongCodes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		token := w.required()
		for range 2 {
			phone, begun := w.begin(token)
			for range 5 {
				requireIncorrect(t, w.confirm(token, begun.GetEnrollmentId(), phone.wrong()))
			}
			requireEnrollmentExpired(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))
		}
		phone, begun := w.begin(token)
		err := w.confirm(token, begun.GetEnrollmentId(), phone.at(0))
		requireTooMany(t, err)
		require.Positive(t, retryAfter(t, err))
		// It never disables anything: nobody needs an admin to get out of it.
		s.exec(`UPDATE factor_failures SET failures = 500, blocked_time = 1`)
		require.NoError(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))
	})
}

func TestSignInEnrollment_inParallel_oneSession(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		token := w.required()
		phone, begun := w.begin(token)
		counted := reasons(atOnce(30, func(int) error { return w.confirm(token, begun.GetEnrollmentId(), phone.at(0)) }))
		require.Equal(t, map[string]int{"OK": 1, errs.ReasonSignInExpired: 29}, counted)
		require.Equal(t, 1, s.sessions.makes())
		require.Equal(t, int64(1), s.number(`SELECT count(*) FROM factors`))
		require.Equal(t, int64(10), s.number(`SELECT count(*) FROM recovery_codes`))
	})
}

// Of two who set up at the same time, with the same password, one does.
func TestSignInEnrollment_twoSignIns(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	one := w.required()
	two := w.signIn().GetEnrollmentRequired().GetSignInToken()
	phone, begun := w.begin(one)
	require.NoError(t, w.confirm(one, begun.GetEnrollmentId(), phone.at(0)))
	_, err := w.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: two})
	requireSignInExpired(t, err)
}

// Whoever has begun may finish, though nobody asks for it any more.
func TestSignInEnrollment_liftedMeanwhile(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	token := w.required()
	phone, begun := w.begin(token)
	w.lift()
	require.NoError(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))
	require.NotEmpty(t, w.signIn().GetChallenge(), "it protects its owner, not only the account")
}

func TestSignInEnrollment_resetMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		token := w.required()
		phone, begun := w.begin(token)
		_, err := w.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
		require.NoError(t, err)
		requireSignInExpired(t, w.confirm(token, begun.GetEnrollmentId(), phone.at(0)))
		require.Equal(t, authv1.Agent_NOT_SET_UP, w.get(w.owner).GetMfaState())
	})
}

func TestSignInEnrollment_outages_unavailable(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	token := w.required()
	phone, begun := w.begin(token)
	unavailable := func() {
		t.Helper()
		err := w.confirm(token, begun.GetEnrollmentId(), phone.at(0))
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Zero(t, w.s.sessions.makes())
	}
	w.s.policies.switchOff(true)
	unavailable()
	w.s.policies.switchOff(false)
	w.s.exec(`CREATE TABLE kept AS SELECT * FROM enrollments`)
	w.s.exec(`UPDATE enrollments SET secret = ?`, []byte("not sealed"))
	unavailable()
	w.s.exec(`UPDATE enrollments SET secret = (SELECT secret FROM kept)`)
	w.s.exec(`ALTER TABLE factor_failures RENAME TO elsewhere`)
	unavailable()
	w.s.exec(`ALTER TABLE elsewhere RENAME TO factor_failures`)
	require.Equal(t, int64(0), w.s.number(`SELECT failures FROM enrollments`))

	// The factor is set up; only the session is not. The person signs in with it.
	w.s.sessions.onMake(func(context.Context) error { return errDown })
	w.s.sessions.onRevoke(func(context.Context) error { return errDown })
	unavailable()
	w.s.sessions.onMake(nil)
	w.s.sessions.onRevoke(nil)
	w.s.clock.atStep(1)
	_, err := w.verify(w.challenge(), phone.at(0))
	require.NoError(t, err)
}

// Sessions that cannot be ended at once are ended by the event; the recovery codes
// would not be shown again.
func TestSignInEnrollment_sessionsLeft_isDoneAllTheSame(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.s.sessions.onRevoke(func(context.Context) error { return errDown })
	_, done := w.enrolled()
	require.Len(t, done.GetRecoveryCodes(), 10)
	require.NotEmpty(t, done.GetSession().GetToken())
	w.background()
	eventOf(t, w.s.published(1)[0], &authv1.MFAEnrolled{})
}

// Sessions from before the set-up end with it.
func TestSignInEnrollment_endsEarlierSessions(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	before := w.signIn().GetSession().GetToken()
	_, done := w.enrolled()
	require.Nil(t, w.s.sessions.byToken(before))
	require.NotNil(t, w.s.sessions.byToken(done.GetSession().GetToken()))
}
