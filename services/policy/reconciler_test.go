package policy_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// enforce makes n accounts that enforce, and some that do not, without telling
// the session service.
func (s *suite) enforce(n int) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), fmt.Sprintf(`INSERT INTO mfa_policies
		(account, revision, enforced, grace_period, apply_to_sso, enforce_time, update_time, ended_revoke_time)
		WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
		SELECT 'account-' || n, 2, n %% 10 <> 0, 1, FALSE, 1, 1, 0 FROM numbers`, n))
	require.NoError(s.t, err)
}

func (s *suite) waitTold(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		known, _ := s.sessions.counts()
		return known == n
	}, 30*time.Second, 5*time.Millisecond)
}

// waitQuiet waits until nobody was told anything for so many rounds.
func (s *suite) waitQuiet(rounds int) {
	s.t.Helper()
	began, toldThen := 0, -1
	require.Eventually(s.t, func() bool {
		_, told := s.sessions.counts()
		asked := s.sessions.timesAsked()
		if told != toldThen {
			began, toldThen = asked, told
		}
		return asked >= began+rounds
	}, 30*time.Second, 5*time.Millisecond)
}

func TestReconciler_tellsEveryEnforcement_atStartAndToANewStore(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.enforce(1000) // pages of 200, 900 of them on
		p := s.start()
		p.background()
		s.waitTold(900)
		known := s.sessions.of("account-999")
		require.True(t, known.GetEnforced())
		require.EqualValues(t, 2, known.GetRevision())
		require.Nil(t, s.sessions.of("account-1000"), "what is off is not told")
		require.Equal(t, time.Microsecond, known.GetGracePeriod().AsDuration())

		s.sessions.beginAnew("two")
		s.waitTold(900)

		s.waitQuiet(5)
	})
}

func TestReconciler_keepsTrying(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.enforce(500)
	var away atomic.Bool
	var answered atomic.Int64
	away.Store(true)
	s.sessions.answers(func(_ context.Context, account string) error {
		// It fails now and then in the middle of every page, too.
		if away.Load() || (account != "" && answered.Add(1)%100 == 0) {
			return status.Error(codes.Unavailable, "away")
		}
		return nil
	})
	p := s.start()
	p.background()
	require.Never(t, func() bool { known, _ := s.sessions.counts(); return known > 0 }, 200*time.Millisecond, 50*time.Millisecond)
	away.Store(false)
	s.waitTold(450)
}

// A store that begins anew while it is being told is told again from the start.
func TestReconciler_storeBeginsAnewMeanwhile(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.enforce(500)
	var once atomic.Bool
	s.sessions.answers(func(_ context.Context, account string) error {
		if account == "account-77" && once.CompareAndSwap(false, true) {
			s.sessions.beginAnew("two")
		}
		return nil
	})
	p := s.start()
	p.background()
	s.waitTold(450)
}

// One enforcement the session service cannot take keeps none of the others away.
func TestReconciler_oneRefused_othersTold(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	s.enforce(500)
	var broken atomic.Bool
	broken.Store(true)
	s.sessions.answers(func(_ context.Context, account string) error {
		if broken.Load() && strings.HasSuffix(account, "-1") {
			return status.Error(codes.InvalidArgument, "no")
		}
		return nil
	})
	p := s.start()
	p.background()
	s.waitTold(449)
	broken.Store(false)
	s.waitTold(450)
}
