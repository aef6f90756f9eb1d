package auth_test

import (
	"context"
	"encoding/base32"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func requireIncorrect(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCodeIncorrect)
}

func requireTooMany(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.ResourceExhausted, errs.ReasonTooManyAttempts)
}

func requireSignInExpired(t *testing.T, err error) {
	t.Helper()
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonSignInExpired)
}

// RFC 6238, section 5.2: one step either side for delay, and only forward.
func TestVerifySignIn_steps(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, _ := w.enrolled()
		token := w.challenge()
		for _, n := range []int64{-2, 2} {
			_, err := w.verify(token, phone.at(n))
			requireIncorrect(t, err)
		}
		for _, c := range []struct {
			used    int64
			refused []int64
		}{{-1, []int64{-1}}, {0, []int64{-1, 0}}, {1, []int64{-1, 0, 1}}} {
			_, err := w.verify(w.challenge(), phone.at(c.used))
			require.NoError(t, err)
			token := w.challenge()
			for _, n := range c.refused {
				_, err := w.verify(token, phone.at(n))
				requireIncorrect(t, err)
			}
		}
		s.clock.atStep(1)
		_, err := w.verify(w.challenge(), phone.at(1))
		require.NoError(t, err)
	})
}

// What is not six ASCII digits is no code, also not one that was right.
func TestVerifySignIn_malformed(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, _ := w.enrolled()
	token := w.challenge()
	code := phone.at(0)
	wide := strings.Map(func(r rune) rune { return r - '0' + '０' }, code)
	arabic := strings.Map(func(r rune) rune { return r - '0' + '٠' }, code)
	odd := []string{
		"", " " + code, code + " ", code + "\n", "\t" + code, code + "\u00a0", "\u3000" + code, "\ufeff" + code, wide, arabic,
		"0" + code, code + "0", code[:5], code[:3] + " " + code[3:], code[:3] + "-" + code[3:], "+" + code[1:], code[:5] + "\x00", code + "\x00",
		code[:5] + "٣",
	}
	for _, token := range []string{token, "tfi1_" + strings.Repeat("A", 43)} {
		for _, typed := range odd {
			_, err := w.verify(token, typed)
			testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonTOTPCodeMalformed)
		}
	}
	_, err := w.verify(token, code)
	require.NoError(t, err, "none of them was a guess")
	for _, typed := range odd {
		_, err := w.verify(w.challenges(1)[0], typed)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonTOTPCodeMalformed)
	}
	require.Zero(t, w.failures("FACTOR"))

	token = w.challenge()
	for _, typed := range []string{"", "x", "0123-4567", strings.Repeat("0", 100)} {
		err := w.recover(token, typed)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonRecoveryCodeMalformed)
	}
	_, err = w.signIns().VerifySignIn(t.Context(), &authv1.VerifySignInRequest{SignInToken: token})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	_, err = w.verify(token, strings.Repeat("1", 101))
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
}

// One code, one session, however many send it at once: with one sign-in, or with
// one each.
func TestVerifySignIn_inParallel_oneSession(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, _ := w.enrolled()
		for round := range 20 {
			s.clock.atStep(1)
			before := s.sessions.makes()
			tokens := w.challenges(50)
			if round%2 == 0 {
				for i := range tokens {
					tokens[i] = tokens[0]
				}
			}
			counted := reasons(atOnce(50, func(i int) error {
				_, err := w.verify(tokens[i], phone.at(0))
				return err
			}))
			require.Equal(t, 1, counted["OK"], "round %d: %v", round, counted)
			require.Equal(t, 50, counted["OK"]+counted[errs.ReasonSignInExpired]+counted[errs.ReasonCodeIncorrect], "%v", counted)
			require.Equal(t, before+1, s.sessions.makes())
			s.exec(`DELETE FROM sign_ins`)
		}
		require.Zero(t, w.failures("FACTOR"), "a code sent twice is not a guess")
	})
}

func TestVerifySignIn_fiveWrong_endTheSignIn(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		token := w.challenge()
		// Of both kinds together.
		for range 2 {
			err := w.recover(token, "0000-0000-0000-0000-0000-0000-00")
			requireIncorrect(t, err)
		}
		for range 3 {
			_, err := w.verify(token, phone.wrong())
			requireIncorrect(t, err)
		}
		_, err := w.verify(token, phone.at(0))
		requireSignInExpired(t, err)
		err = w.recover(token, done.GetRecoveryCodes()[0])
		requireSignInExpired(t, err)
		require.Equal(t, int64(5), w.failures("FACTOR"))
		require.Equal(t, int64(2), w.failures("RECOVERY_CODE"))

		// A new sign-in is good, and a right code clears what was counted of its kind.
		_, err = w.verify(w.challenge(), phone.at(0))
		require.NoError(t, err)
		require.Zero(t, w.failures("FACTOR"))
		require.Equal(t, int64(2), w.failures("RECOVERY_CODE"))
		err = w.recover(w.challenge(), done.GetRecoveryCodes()[0])
		require.NoError(t, err)
		require.Zero(t, w.failures("RECOVERY_CODE"))
	})
}

func TestRecoveryCode_worksOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		set := done.GetRecoveryCodes()
		// As people type it.
		err := w.recover(w.challenge(), " "+strings.ToLower(strings.ReplaceAll(set[0], "-", " "))+" ")
		require.NoError(t, err)
		err = w.recover(w.challenge(), set[0])
		requireIncorrect(t, err)

		// 50 at once.
		tokens := w.challenges(50)
		before := s.sessions.makes()
		counted := reasons(atOnce(50, func(i int) error {
			err := w.recover(tokens[i], set[1])
			return err
		}))
		require.Equal(t, 1, counted["OK"], "%v", counted)
		require.Equal(t, before+1, s.sessions.makes())
		s.exec(`DELETE FROM factor_failures`)

		// All of them; the last one leaves the factor as it is.
		for _, code := range set[2:] {
			err := w.recover(w.challenge(), code)
			require.NoError(t, err)
		}
		challenge := w.signIn().GetChallenge()
		require.Equal(t, []authv1.Factor_Type{authv1.Factor_TOTP}, challenge.GetMethods())
		_, err = w.verify(challenge.GetSignInToken(), phone.at(0))
		require.NoError(t, err)

		w.background()
		all := s.published(11)
		for i, msg := range all[1:] {
			event := eventOf(t, msg, &authv1.RecoveryCodeUsed{})
			require.Equal(t, w.owner, event.GetAgent())
			require.Equal(t, int64(2), event.GetAgentVersion())
			require.Equal(t, int32(9-i), event.GetRecoveryCodesLeft())
			require.NotNil(t, event.GetUseTime())
		}
	})
}

func TestRecoveryCode_ofSomebodyElse(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	w.person("ann@example.com")
	w.enrolled()
	_, anns := w.enrolledAs("ann@example.com")
	err := w.recover(w.challenge(), anns.GetRecoveryCodes()[0])
	requireIncorrect(t, err)
	// Nor when somebody who can write to the database moves it.
	w.s.exec(`DELETE FROM recovery_codes WHERE agent_id IN (SELECT id FROM agents WHERE email_key = ?)`, ownerEmail)
	w.s.exec(`UPDATE recovery_codes SET agent_id = (SELECT id FROM agents WHERE email_key = ?)`, ownerEmail)
	err = w.recover(w.challenge(), anns.GetRecoveryCodes()[0])
	requireIncorrect(t, err)
}

// Each step takes only what belongs to it.
func TestSignInSteps_inOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.person("ann@example.com")
		phone, done := w.enrolled()
		waiting := w.signInAs("ann@example.com").GetEnrollmentRequired().GetSignInToken()
		_, err := w.verify(waiting, phone.at(0))
		requireSignInExpired(t, err)
		err = w.recover(waiting, done.GetRecoveryCodes()[0])
		requireSignInExpired(t, err)

		challenged := w.challenge()
		_, err = w.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: challenged})
		requireSignInExpired(t, err)
		_, err = w.signIns().ConfirmSignInEnrollment(t.Context(), &authv1.ConfirmSignInEnrollmentRequest{
			SignInToken: challenged, EnrollmentId: "x", Code: phone.at(0),
		})
		requireSignInExpired(t, err)

		// Nothing begun yet.
		_, err = w.signIns().ConfirmSignInEnrollment(t.Context(), &authv1.ConfirmSignInEnrollmentRequest{
			SignInToken: waiting, EnrollmentId: "x\x00", Code: phone.at(0),
		})
		testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonEnrollmentExpired)

		// Too late.
		s.exec(`UPDATE sign_ins SET expire_time = ?`, time.Now().UnixMicro())
		_, err = w.verify(challenged, phone.at(0))
		requireSignInExpired(t, err)
		_, err = w.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: waiting})
		requireSignInExpired(t, err)
		require.Equal(t, 1, s.sessions.makes())
	})
}

func TestVerifySignIn_agentChangedMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, _ := w.enrolled()
		for name, change := range map[string]func(){
			"reset": func() {
				_, err := w.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
				require.NoError(t, err)
			},
			"deactivated": func() { s.exec(`UPDATE agents SET state = 'DEACTIVATED'`) },
			"demoted":     func() { s.exec(`UPDATE agents SET version = version + 1`) },
		} {
			token := w.challenge()
			change()
			_, err := w.verify(token, phone.at(0))
			requireSignInExpired(t, err)
			s.exec(`UPDATE agents SET state = 'ACTIVE'`)
			if name == "reset" {
				phone, _ = w.enrolled()
			}
		}

		// Reset after the commit and before the session: none is made.
		before := s.sessions.makes()
		admin := w.agents()
		s.sessions.onMake(func(ctx context.Context) error {
			_, err := admin.ResetMfa(asOperator(ctx), &authv1.ResetMfaRequest{Name: w.owner, Reason: "lost"})
			return err
		})
		_, err := w.verify(w.challenge(), phone.at(0))
		requireSignInExpired(t, err)
		require.Equal(t, before, s.sessions.makes())
	})
}

// A newer policy does not take a second factor back.
func TestVerifySignIn_policyChangesMeanwhile(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, _ := w.enrolled()
	token := w.challenge()
	made := 0
	w.s.sessions.onMake(func(context.Context) error {
		if made++; made == 1 {
			w.lift()
			w.s.sessions.knows(3)
		}
		return nil
	})
	_, err := w.verify(token, phone.at(0))
	require.NoError(t, err)
	require.Equal(t, int64(3), w.s.sessions.lastMade().GetEnforcement().GetRevision())

	w.s.clock.atStep(1)
	w.s.sessions.knows(99)
	_, err = w.verify(w.challenge(), phone.at(0))
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
}

// Nobody gets in by an outage, and nobody pays for one with a guess.
func TestVerifySignIn_outages_unavailable(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		w.person("ann@example.com")
		w.enrolledAs("ann@example.com")
		token := w.challenge()
		_, err := w.verify(token, phone.wrong())
		requireIncorrect(t, err)
		before := s.sessions.makes()
		down := func(why string, code string) {
			t.Helper()
			_, err := w.verify(token, code)
			testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
			require.Equal(t, before, s.sessions.makes(), why)
			require.Equal(t, int64(1), w.failures("FACTOR"), why)
		}

		s.policies.switchOff(true)
		down("policy service down", phone.at(0))
		down("policy service down", phone.wrong())
		s.policies.switchOff(false)

		// Somebody else's sealed secret in the place of this one.
		s.exec(`CREATE TABLE kept AS SELECT * FROM factors`)
		s.exec(`UPDATE factors SET secret = (SELECT k.secret FROM kept k WHERE k.id <> factors.id)`)
		down("secret of another agent", phone.at(0))
		s.exec(`UPDATE factors SET secret = (SELECT k.secret FROM kept k WHERE k.id = factors.id)`)

		// The key is gone from the keys file.
		other := keyring.Key{Name: "k2", Secret: []byte("another key of the auth service, for testing")[:32]}
		require.NoError(t, s.keys.Replace("k2", other))
		down("key unknown", phone.at(0))
		require.NoError(t, s.keys.Replace("k2", other, keyring.Key{Name: "k1", Secret: []byte("a key of the auth service, for testing only")[:32]}))

		s.exec(`ALTER TABLE factor_failures RENAME TO elsewhere`)
		_, err = w.verify(token, phone.at(0))
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		err = w.recover(token, done.GetRecoveryCodes()[0])
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.exec(`ALTER TABLE elsewhere RENAME TO factor_failures`)
		require.Equal(t, before, s.sessions.makes())

		// After the commit the code is used up: the person begins again.
		s.sessions.onMake(func(context.Context) error { return errDown })
		_, err = w.verify(token, phone.at(0))
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		s.sessions.onMake(nil)
		_, err = w.verify(token, phone.at(1))
		requireSignInExpired(t, err)
		_, err = w.verify(w.challenge(), phone.at(1))
		require.NoError(t, err)

		require.NoError(t, s.db.Close())
		_, err = w.verify(token, phone.at(1))
		testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	})
}

// Nor is it in the logs, whatever goes wrong.
func TestSecrets_notInTheLogs(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	var logged lockedBuffer
	s.log = slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})
	w := s.world()
	phone, done := w.enrolled()
	const mistyped = "a password typed wrong"
	require.Error(t, w.try("192.0.2.1", ownerEmail, mistyped))
	token := w.challenge()
	_, err := w.verify(token, phone.wrong())
	requireIncorrect(t, err)
	s.policies.switchOff(true)
	require.Error(t, w.recover(token, done.GetRecoveryCodes()[0]))
	s.policies.switchOff(false)
	s.exec(`ALTER TABLE factor_failures RENAME TO elsewhere`)
	_, err = w.verify(token, phone.at(0))
	require.Error(t, err)
	s.exec(`ALTER TABLE elsewhere RENAME TO factor_failures`)
	s.exec(`UPDATE factors SET secret = ?`, []byte{1})
	_, err = w.verify(token, phone.at(0))
	require.Error(t, err)
	require.NoError(t, w.recover(token, done.GetRecoveryCodes()[1]))

	require.Contains(t, logged.String(), "VerifySignIn", "the log has what happened")
	base32Secret := base32.StdEncoding.EncodeToString(phone.secret)
	for i, secret := range append(done.GetRecoveryCodes(),
		goodPassword, mistyped, token, base32Secret, string(phone.secret), phone.wrong(), done.GetSession().GetToken()) {
		require.NotContains(t, logged.String(), secret, "secret %d", i)
	}
	require.NotContains(t, logged.String(), strings.ReplaceAll(done.GetRecoveryCodes()[1], "-", ""))
}

// Whatever opens something is not in the database as it is.
func TestSecrets_notInTheDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		w.person("ann@example.com")
		phone, done := w.enrolled()
		token := w.challenge()
		waiting := w.signInAs("ann@example.com").GetEnrollmentRequired().GetSignInToken()
		begun, err := w.signIns().BeginSignInEnrollment(t.Context(), &authv1.BeginSignInEnrollmentRequest{SignInToken: waiting})
		require.NoError(t, err)
		forbidden := []string{
			goodPassword, string(phone.secret), token, waiting, strings.TrimPrefix(token, "tfi1_"),
			begun.GetEnrollment().GetSecret(), string(w.phone(begun.GetEnrollment().GetSecret()).secret), done.GetSession().GetToken(),
		}
		for _, code := range done.GetRecoveryCodes() {
			forbidden = append(forbidden, code, strings.ReplaceAll(code, "-", ""))
		}
		dump := s.dump()
		require.Contains(t, dump, ownerEmail, "the dump has what is there")
		for i, secret := range forbidden {
			require.NotContains(t, dump, secret, "secret %d", i)
			require.NotContains(t, dump, fmt.Sprintf("%x", secret), "secret %d in hex", i)
		}
	})
}
