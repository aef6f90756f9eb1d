package auth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// try signs in from an address.
func (w *world) try(address, email, password string) error {
	req := signInRequest()
	req.Email, req.Password = email, password
	_, err := w.behind().SignIn(from(w.t.Context(), address), req)
	return err
}

const wrongPassword = "wrong password"

func TestPasswordGuessing_coolsDownWhereItHappens(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		for range 10 {
			testkit.RequireError(t, w.try("192.0.2.1", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		for _, password := range []string{wrongPassword, goodPassword} {
			err := w.try("192.0.2.1", ownerEmail, password)
			testkit.RequireError(t, err, codes.ResourceExhausted, errs.ReasonTooManyAttempts)
			require.InDelta(t, time.Minute, retryAfter(t, err), float64(20*time.Second))
		}
		require.Zero(t, s.sessions.makes())

		// The person themselves, from elsewhere and at once.
		require.NoError(t, w.try("192.0.2.2", ownerEmail, goodPassword))
		// Others from that address.
		w.person("ann@example.com")
		require.NoError(t, w.try("192.0.2.1", "ann@example.com", goodPassword))
		// The spelling of the address is no way round.
		err := w.try("192.0.2.1", "OLGA@EXAMPLE.COM", goodPassword)
		testkit.RequireError(t, err, codes.ResourceExhausted, errs.ReasonTooManyAttempts)

		// It grows with every failure after it, up to a quarter of an hour.
		for _, want := range []float64{2, 4, 8, 15, 15} {
			s.exec(`UPDATE password_failures SET blocked_time = 1 WHERE blocked_time > 0`)
			testkit.RequireError(t, w.try("192.0.2.1", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
			require.InDelta(t, want, retryAfter(t, w.try("192.0.2.1", ownerEmail, goodPassword)).Minutes(), 0.4)
		}

		// The right password clears what failed here.
		s.exec(`UPDATE password_failures SET blocked_time = 1 WHERE blocked_time > 0`)
		require.NoError(t, w.try("192.0.2.1", ownerEmail, goodPassword))
		for range 9 {
			testkit.RequireError(t, w.try("192.0.2.1", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		require.NoError(t, w.try("192.0.2.1", ownerEmail, goodPassword))
	})
}

// The limit tells nobody who exists.
func TestPasswordGuessing_unknownAddress_alike(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	for range 10 {
		testkit.RequireError(t, w.try("192.0.2.1", "nobody@example.com", wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
	}
	testkit.RequireError(t, w.try("192.0.2.1", "nobody@example.com", wrongPassword), codes.ResourceExhausted, errs.ReasonTooManyAttempts)
}

// People are given whole IPv6 networks.
func TestPasswordGuessing_networkOfIPv6_isOne(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	for i := range 10 {
		err := w.try(fmt.Sprintf("2001:db8:1:2::%x", i+1), ownerEmail, wrongPassword)
		testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonInvalidCredentials)
	}
	testkit.RequireError(t, w.try("2001:db8:1:2::ffff", ownerEmail, goodPassword), codes.ResourceExhausted, errs.ReasonTooManyAttempts)
	require.NoError(t, w.try("2001:db8:1:3::1", ownerEmail, goodPassword))
}

// However many addresses guess, the person gets in from their own; but an address
// that fails then has less patience to draw on.
func TestPasswordGuessing_fromEverywhere_neverShutsOut(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		w := s.world()
		testkit.RequireError(t, w.try("192.0.2.1", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		s.exec(`UPDATE password_failures SET failures = 10000 WHERE blocked_time = 0`) // everywhere, and there
		s.exec(`UPDATE password_failures SET blocked_time = ? WHERE id IN (SELECT id FROM password_failures)`, 0)

		require.NoError(t, w.try("192.0.2.9", ownerEmail, goodPassword))
		for range 2 {
			testkit.RequireError(t, w.try("192.0.2.9", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		require.NoError(t, w.try("192.0.2.9", ownerEmail, goodPassword), "two typing errors are forgiven")
		for range 3 {
			testkit.RequireError(t, w.try("192.0.2.8", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		testkit.RequireError(t, w.try("192.0.2.8", ownerEmail, goodPassword), codes.ResourceExhausted, errs.ReasonTooManyAttempts)

		// A day later it is forgotten.
		s.exec(`UPDATE password_failures SET blocked_time = 0, update_time = ?`, time.Now().Add(-25*time.Hour).UnixMicro())
		for range 9 {
			testkit.RequireError(t, w.try("192.0.2.8", ownerEmail, wrongPassword), codes.Unauthenticated, errs.ReasonInvalidCredentials)
		}
		require.NoError(t, w.try("192.0.2.8", ownerEmail, goodPassword))
	})
}

// Guesses made at the same time learn no more than guesses made in turn.
func TestPasswordGuessing_inParallel_noMoreAnswersThanPatience(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.hashing = password.Config{Concurrency: 4, Queue: 1000}
		w := s.world()
		counted := reasons(atOnce(40, func(int) error { return w.try("192.0.2.1", ownerEmail, wrongPassword) }))
		require.Equal(t, map[string]int{errs.ReasonInvalidCredentials: 10, errs.ReasonTooManyAttempts: 30}, counted)
		require.NoError(t, w.try("192.0.2.2", ownerEmail, goodPassword))
	})
}

// The table names nobody.
func TestPasswordGuessing_rowsNameNobody(t *testing.T) {
	w := newSuite(t, testkit.SQLite(t)).world()
	require.Error(t, w.try("192.0.2.1", ownerEmail, wrongPassword))
	var id string
	require.NoError(t, w.s.db.QueryRow(t.Context(), `SELECT id FROM password_failures`).Scan(&id))
	require.NotContains(t, id, "olga")
	require.NotContains(t, id, "192.0.2.1")
	require.Equal(t, authv1.Agent_OWNER, w.get(w.owner).GetRole())
}
