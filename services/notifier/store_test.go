package notifier

import (
	"bufio"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

func onBothStores(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	for name, url := range map[string]func() string{
		"sqlite": func() string { return testkit.SQLite(t) }, "postgres": func() string { return testkit.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), url(), Schema)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			require.NoError(t, db.Migrate(t.Context(), Migrations()))
			test(t, newStore(db))
		})
	}
}

const (
	someone  = "01920000-0000-7000-8000-000000000001"
	somebody = "01920000-0000-7000-8000-000000000002"
)

// A lease that ran out in the middle of an attempt makes that attempt ambiguous,
// and whoever held it has no say any more.
func TestStore_leaseRunsOut(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		isNew, err := s.queue(ctx, notice{account: "acme", kind: mail.KindMFAReset, eventID: "e1", agent: someone, email: "a@acme.example"})
		require.NoError(t, err)
		require.True(t, isNew)
		for attempt, want := range []state{stateQueued, stateRetrying} {
			owner := []string{"first", "second"}[attempt]
			c, err := s.claim(ctx, owner, time.Minute)
			require.NoError(t, err)
			require.Len(t, c.notices, 1)
			n := c.notices[0]
			require.Equal(t, want, n.state)
			require.Equal(t, attempt, n.ambiguousAttempts)
			again, err := s.claim(ctx, "other", time.Minute)
			require.NoError(t, err)
			require.Empty(t, again.notices, "leased")
			held, err := s.start(ctx, "other", n, time.Minute)
			require.NoError(t, err)
			require.False(t, held, "leased to somebody else")
			held, err = s.start(ctx, owner, n, -time.Second) // runs out at once
			require.NoError(t, err)
			require.True(t, held)
		}
		c, err := s.claim(ctx, "third", time.Minute)
		require.NoError(t, err)
		require.Empty(t, c.notices)
		require.Len(t, c.lost, 1)
		require.Equal(t, stateUnknown, c.lost[0].state)
		require.Equal(t, lostAttempt, c.lost[0].lastError)
		held, err := s.settle(ctx, "second", c.lost[0].id, settlement{state: stateSent})
		require.NoError(t, err)
		require.False(t, held, "too late")
		_, waiting, err := s.nextDue(ctx)
		require.NoError(t, err)
		require.False(t, waiting)
	})
}

// Old notices go, but for those by which agents know of an enforcement that runs.
func TestStore_removesOld(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		at := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
		_, err := s.learn(ctx, terms{account: "acme", revision: 2, enforced: true, enforceTime: at, revokeTime: at}, "e1")
		require.NoError(t, err)
		for _, n := range []notice{
			{account: "acme", kind: mail.KindEnforcementEnabled, eventID: "e1", agent: someone, policyRevision: 2, enforceTime: at},
			{account: "acme", kind: mail.KindEnforcementEnabled, eventID: "e0", agent: someone, policyRevision: 1, enforceTime: at.Add(-time.Hour)},
			{account: "acme", kind: mail.KindMFAReset, eventID: "e2", agent: somebody},
			{account: "acme", kind: mail.KindMFAReset, eventID: "e3", agent: somebody},
		} {
			_, err := s.queue(ctx, n)
			require.NoError(t, err)
		}
		_, err = s.db.Exec(ctx, `UPDATE notices SET state = 'SENT', due_time = NULL, update_time = 1 WHERE event_id <> 'e3'`)
		require.NoError(t, err)
		removed, err := s.removeOld(ctx, 90*24*time.Hour, 100)
		require.NoError(t, err)
		require.EqualValues(t, 2, removed)
		for eventID, agent := range map[string]string{"e1": someone, "e3": somebody} {
			has, err := s.has(ctx, eventID, agent)
			require.NoError(t, err)
			require.True(t, has, eventID)
		}
	})
}

func TestConfig_saysEverythingThatIsWrong(t *testing.T) {
	good := Config{PublicURL: "https://twofold.example", MailFrom: "a@twofold.example"}.withDefaults()
	require.NoError(t, good.check())
	err := Config{PublicURL: "twofold", Workers: -1, Lease: time.Hour, MinRetry: time.Hour, MaxRetry: time.Minute, Retention: time.Hour}.withDefaults().check()
	for _, want := range []string{"public URL", "workers", "lease", "pause", "retention"} {
		require.ErrorContains(t, err, want)
	}
}

// That a mail is out is not forgotten while the database is away or overloaded: it
// would be sent once more.
func TestCourier_storesTheOutcomeOnceItCan(t *testing.T) {
	onBothStores(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		_, err := s.queue(ctx, notice{account: "acme", kind: mail.KindMFAReset, eventID: "e1", agent: someone, email: "a@acme.example"})
		require.NoError(t, err)
		batch, err := s.claim(ctx, "owner", time.Minute)
		require.NoError(t, err)
		held, err := s.start(ctx, batch.owner, batch.notices[0], time.Minute)
		require.NoError(t, err)
		require.True(t, held)

		m, err := newMetrics(prometheus.NewRegistry())
		require.NoError(t, err)
		read, log := io.Pipe()
		c := &courier{store: s, metrics: m, log: slog.New(slog.NewTextHandler(log, nil))}
		_, err = s.db.Exec(ctx, `ALTER TABLE notices RENAME TO elsewhere`)
		require.NoError(t, err)
		settled := make(chan error, 1)
		go func() {
			settled <- c.settle(ctx, batch.owner, batch.notices[0], settlement{state: stateSent, told: true})
		}()
		line, err := bufio.NewReader(read).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "trying again")
		go func() { _, _ = io.Copy(io.Discard, read) }()
		_, err = s.db.Exec(ctx, `ALTER TABLE elsewhere RENAME TO notices`)
		require.NoError(t, err)
		require.NoError(t, <-settled)
		_, waiting, err := s.nextDue(ctx)
		require.NoError(t, err)
		require.False(t, waiting, "it is sent")
	})
}
