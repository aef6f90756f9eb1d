package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/authz"
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
		require.Equal(t, "Acme Ltd", required.GetAccountDisplayName())
		require.WithinDuration(t, time.Now(), required.GetEnforceTime().AsTime(), time.Minute)
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

func TestSignIn_mobile_saysWhatToDoOnAPhone(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.enforce()
	req := signInRequest()
	req.Client = sessionv1.Client_MOBILE
	resp, err := w.signIns().SignIn(t.Context(), req)
	require.NoError(t, err)
	prompt := resp.GetEnrollmentRequired().GetPrompt()
	require.Equal(t, "MFA_SETUP_REQUIRED_MOBILE", prompt.GetCode())
	require.NotEmpty(t, prompt.GetTitle())
	require.Contains(t, prompt.GetMessage(), "phone")
}

// Whatever is wrong, the answer is the same to the last byte, and so is what is
// counted. It takes the same work, of which a password's hash is nearly all, so
// that the time tells nobody who exists (OWASP ASVS 6.3.8).
func TestSignIn_wrong_alikeForEveryCause(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.agent("invited@example.com", authv1.Agent_AGENT)
		w.person("gone@example.com")
		s.exec(`UPDATE agents SET state = 'DEACTIVATED' WHERE email_key = 'gone@example.com'`)
		w.person("damaged@example.com")
		s.exec(`UPDATE agents SET has_password = FALSE WHERE email_key = 'damaged@example.com'`)
		w.account("globex")

		causes := map[string]func(*authv1.SignInRequest){
			"wrong password":        func(r *authv1.SignInRequest) { r.Password = "wrong password" },
			"short password":        func(r *authv1.SignInRequest) { r.Password = "x" },
			"unknown address":       func(r *authv1.SignInRequest) { r.Email = "nobody@example.com" },
			"no address":            func(r *authv1.SignInRequest) { r.Email = "'; DROP TABLE agents; --" },
			"zero byte":             func(r *authv1.SignInRequest) { r.Email = "olga\x00@example.com" },
			"unknown account":       func(r *authv1.SignInRequest) { r.Account = "initech" },
			"no account":            func(r *authv1.SignInRequest) { r.Account = "ACME\x00/x" },
			"another's account":     func(r *authv1.SignInRequest) { r.Account = "globex" },
			"invited":               func(r *authv1.SignInRequest) { r.Email = "invited@example.com" },
			"deactivated":           func(r *authv1.SignInRequest) { r.Email = "gone@example.com" },
			"password switched off": func(r *authv1.SignInRequest) { r.Email = "damaged@example.com" },
		}
		answers := map[string]string{}
		for cause, change := range causes {
			req := signInRequest()
			change(req)
			before := w.hashes()
			_, err := w.signIns().SignIn(t.Context(), req)
			testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
			require.Equal(t, before+1, w.hashes(), cause)
			encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(status.Convert(err).Proto())
			require.NoError(t, err)
			answers[string(encoded)] = cause
		}
		require.Len(t, answers, 1, "%v", answers)
		require.Zero(t, s.sessions.makes())
		require.Zero(t, s.number(`SELECT count(*) FROM sign_ins`))
		require.Equal(t, int64(2*len(causes)-2), s.number(`SELECT count(*) FROM password_failures`),
			"a row each here and everywhere; the two wrong passwords share theirs")
	})
}

func TestSignIn_invalidRequest(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	for name, change := range map[string]func(*authv1.SignInRequest){
		"no account":    func(r *authv1.SignInRequest) { r.Account = "" },
		"no address":    func(r *authv1.SignInRequest) { r.Email = "" },
		"no password":   func(r *authv1.SignInRequest) { r.Password = "" },
		"no client":     func(r *authv1.SignInRequest) { r.Client = sessionv1.Client_KIND_UNSPECIFIED },
		"a new client":  func(r *authv1.SignInRequest) { r.Client = 77 },
		"long password": func(r *authv1.SignInRequest) { r.Password = strings.Repeat("p", 1001) },
	} {
		req := signInRequest()
		change(req)
		_, err := w.signIns().SignIn(t.Context(), req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		require.Error(t, err, name)
	}
	require.Zero(t, w.s.number(`SELECT count(*) FROM password_failures`))
}

// What another system hashed is good once, and then hashed as ours.
func TestSignIn_importedHash_isMadeAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		hash, err := bcrypt.GenerateFromPassword([]byte(goodPassword), bcrypt.MinCost)
		require.NoError(t, err)
		s.exec(`UPDATE passwords SET hash = ?`, string(hash))
		require.NotEmpty(t, w.signIn().GetSession().GetToken())
		var stored string
		require.NoError(t, s.db.QueryRow(t.Context(), `SELECT hash FROM passwords`).Scan(&stored))
		require.True(t, strings.HasPrefix(stored, "$argon2id$"))
		require.NotEmpty(t, w.signIn().GetSession().GetToken())
	})
}

func TestSignIn_damagedHash_unavailable(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.s.exec(`UPDATE passwords SET hash = 'x'`)
	_, err := w.signIns().SignIn(t.Context(), signInRequest())
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Zero(t, w.s.number(`SELECT count(*) FROM password_failures`))
}

func TestSignIn_gateway_speaksForTheBrowser(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	told := metadata.AppendToOutgoingContext(from(t.Context(), "2001:db8::7"), authz.UserAgentKey, strings.Repeat("Netscape ", 100))
	_, err := w.behind().SignIn(told, signInRequest())
	require.NoError(t, err)
	got := w.s.sessions.lastMade().GetClient()
	require.Equal(t, "2001:db8::7", got.GetAddress())
	require.True(t, strings.HasPrefix(got.GetUserAgent(), "Netscape Netscape"))
	require.Len(t, got.GetUserAgent(), 256)

	// Nobody else does.
	_, err = w.signIns().SignIn(told, signInRequest())
	require.NoError(t, err)
	got = w.s.sessions.lastMade().GetClient()
	require.Empty(t, got.GetAddress())
	require.NotContains(t, got.GetUserAgent(), "Netscape")

	// A sign-in token beside the request is believed from the gateway alone.
	phone, _ := w.enrolled()
	cookie := metadata.AppendToOutgoingContext(t.Context(), authz.SignInTokenKey, w.challenge())
	req := &authv1.VerifySignInRequest{Answer: &authv1.VerifySignInRequest_TotpCode{TotpCode: phone.at(0)}}
	_, err = w.signIns().VerifySignIn(cookie, req)
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSignInExpired)
	resp, err := w.behind().VerifySignIn(cookie, req)
	require.NoError(t, err)
	require.NotEmpty(t, resp.GetSession().GetToken())
}

// Whoever cannot be decided about does not get in.
func TestSignIn_outages_unavailable(t *testing.T) {
	for _, enforced := range []bool{false, true} {
		w := newSuite(t, testkit.SQLite(t)).world()
		if enforced {
			w.enforce()
		}
		refused := func(why string) {
			t.Helper()
			resp, err := w.signIns().SignIn(t.Context(), signInRequest())
			testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
			require.Nil(t, resp, why)
			require.Zero(t, w.s.sessions.makes(), why)
			require.Nil(t, w.get(w.owner).GetLastSignInTime(), why)
			require.Zero(t, w.s.number(`SELECT count(*) FROM password_failures`), why)
		}
		w.s.exec(`UPDATE agents SET has_factor = TRUE`)
		refused("the factor cannot be found")
		w.s.exec(`UPDATE agents SET has_factor = FALSE`)
		w.s.exec(`INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time)
			SELECT 'f', id, 'TOTP', ?, 0, 0, 0 FROM agents`, []byte{1})
		refused("there is a factor nobody spoke of")
		w.s.exec(`DELETE FROM factors`)
		if !enforced {
			w.s.sessions.onMake(func(context.Context) error { return errDown })
			refused("session service down")
			w.s.sessions.onMake(func(context.Context) error {
				return errs.New(codes.Unauthenticated, errs.ReasonCredentialsMissing, "Our certificate is not good.")
			})
			refused("session service does not know us")
			w.s.sessions.onMake(nil)
		}
		w.s.policies.switchOff(true)
		_, err := w.signIns().SignIn(t.Context(), signInRequest())
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		w.s.policies.switchOff(false)
		w.s.policies.forget("acme")
		_, err = w.signIns().SignIn(t.Context(), signInRequest())
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Zero(t, w.s.sessions.makes())

		require.NoError(t, w.s.db.Close())
		for _, password := range []string{goodPassword, "wrong password"} {
			req := signInRequest()
			req.Password = password
			_, err = w.signIns().SignIn(t.Context(), req)
			testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		}
	}
}

// Enforcement that begins between the decision and the session counts.
func TestSignIn_policyChangesMeanwhile_decidedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		var once sync.Once
		s.sessions.onMake(func(context.Context) error {
			once.Do(func() {
				w.enforce()
				s.sessions.knows(2)
			})
			return nil
		})
		require.NotEmpty(t, w.signIn().GetEnrollmentRequired().GetSignInToken())
		require.Zero(t, s.sessions.makes())

		// And back again.
		w.lift()
		s.sessions.knows(3)
		require.NotEmpty(t, w.signIn().GetSession().GetToken())

		// A policy service that lags behind for good decides nothing.
		s.sessions.knows(99)
		_, err := w.signIns().SignIn(t.Context(), signInRequest())
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		require.Equal(t, 1, s.sessions.makes())
	})
}

// A reset between the decision and the session ends sessions of the version the
// decision was made on, so it is made again.
func TestSignIn_agentChangesMeanwhile_decidedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		admin, asked := w.agents(), 0
		s.sessions.onMake(func(ctx context.Context) (err error) {
			if asked++; asked == 1 {
				_, err = admin.ResetMfa(asOperator(ctx), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
			}
			return err
		})
		require.NotEmpty(t, w.signIn().GetSession().GetToken())
		require.Equal(t, int64(2), s.sessions.lastMade().GetAgentVersion())

		// Deactivated meanwhile: as if never known.
		s.sessions.onMake(func(ctx context.Context) error {
			if _, err := s.db.Exec(ctx, `UPDATE agents SET state = 'DEACTIVATED', version = version + 1`); err != nil {
				return err
			}
			return errs.New(codes.Aborted, errs.ReasonAgentVersionStale, "Stale.")
		})
		_, err := w.signIns().SignIn(t.Context(), signInRequest())
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
	})
}

func TestSignIn_overloaded(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.hashing = password.Config{Concurrency: 1, Queue: 1}
	w := s.world()
	counted := reasons(atOnce(20, func(int) error {
		_, err := w.signIns().SignIn(t.Context(), signInRequest())
		return err
	}))
	require.Positive(t, counted["OK"])
	require.Positive(t, counted[errs.ReasonOverloaded])
	require.Equal(t, 20, counted["OK"]+counted[errs.ReasonOverloaded])
	require.Zero(t, s.number(`SELECT count(*) FROM password_failures`), "nobody was wrong")
}

// A sign-in token proves half a person: it is no session, nowhere.
func TestSignInToken_isNoSession(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	token := w.challenge()
	_, err := w.profile().GetMe(with(t.Context(), token), &authv1.GetMeRequest{})
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSessionUnknown)
	// Nor is a session a sign-in, nor anything else.
	for _, other := range []string{
		done.GetSession().GetToken(), "", "tfi1_", token + "A", strings.TrimPrefix(token, "tfi1_"), "tfi1_" + strings.Repeat("A", 43),
	} {
		_, err := w.verify(other, phone.at(0))
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSignInExpired)
		_, err = w.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: other})
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSignInExpired)
	}
	_, err = w.verify(token, phone.at(0))
	require.NoError(t, err, "none of that used up the code")
}
