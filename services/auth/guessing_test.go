package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// New sign-ins, and the right password, bring no new guesses.
func TestGuessing_aNewSignInDoesNotRefill(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	phone, done := w.enrolled()
	evaluated := 0
	for range 4 {
		token := w.challenge()
		for range 4 {
			_, err := w.verify(token, phone.wrong())
			if errs.ReasonOf(err) == errs.ReasonTooManyAttempts {
				break
			}
			requireIncorrect(t, err)
			evaluated++
		}
	}
	require.Equal(t, 10, evaluated)
	token := w.challenge()
	_, err := w.verify(token, phone.at(0))
	requireTooMany(t, err)
	require.InDelta(t, time.Minute, retryAfter(t, err), float64(20*time.Second))
	err = w.recover(token, done.GetRecoveryCodes()[0])
	requireTooMany(t, err)

	// It grows with every failure after it, up to a quarter of an hour.
	for _, want := range []float64{2, 4, 8, 15, 15} {
		w.cooledDown()
		token := w.challenge()
		_, err := w.verify(token, phone.wrong())
		requireIncorrect(t, err)
		_, err = w.verify(token, phone.at(0))
		requireTooMany(t, err)
		require.InDelta(t, want, retryAfter(t, err).Minutes(), 0.4)
	}
	w.cooledDown()
	_, err = w.verify(token, phone.at(0))
	require.NoError(t, err, "refused guesses did not end the sign-in")
	require.Zero(t, w.failures("FACTOR"))
}

// 200 guesses at once, each with a sign-in of its own: ten are looked at.
func TestGuessing_inParallel_noMoreThanTheBudget(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, _ := w.enrolled()
		tokens, wrong := w.challenges(200), phone.wrongs(200)
		counted := reasons(atOnce(200, func(i int) error {
			_, err := w.verify(tokens[i], wrong[i])
			return err
		}))
		require.Equal(t, map[string]int{errs.ReasonCodeIncorrect: 10, errs.ReasonTooManyAttempts: 190}, counted)
		require.Equal(t, int64(10), w.failures("FACTOR"))

		// After the cool-down, one more.
		w.cooledDown()
		counted = reasons(atOnce(50, func(i int) error {
			_, err := w.verify(tokens[i+100], wrong[i])
			return err
		}))
		require.Equal(t, 1, counted[errs.ReasonCodeIncorrect], "%v", counted)
		require.Equal(t, int64(11), w.failures("FACTOR"))
	})
}

// NIST SP 800-63B-4, section 3.2.2: a hundred in a row disable the factor.
func TestGuessing_hundred_disable_untilReset(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		phone, done := w.enrolled()
		_, err := w.verify(w.challenge(), phone.wrong())
		requireIncorrect(t, err)
		s.exec(`UPDATE factor_failures SET failures = 99`)
		_, err = w.verify(w.challenge(), phone.wrong())
		requireIncorrect(t, err)
		w.cooledDown()
		token := w.challenge()
		_, err = w.verify(token, phone.at(0))
		requireTooMany(t, err)
		require.Zero(t, retryAfter(t, err), "waiting does not help")
		err = w.recover(token, done.GetRecoveryCodes()[0])
		requireTooMany(t, err)
		require.Equal(t, int64(100), w.failures("FACTOR"))

		_, err = w.agents().ResetMfa(asOperator(t.Context()), &authv1.ResetMfaRequest{Name: w.owner, Reason: "locked out"})
		require.NoError(t, err)
		phone, _ = w.enrolled()
		_, err = w.verify(w.challenge(), phone.at(0))
		require.NoError(t, err)
	})
}
