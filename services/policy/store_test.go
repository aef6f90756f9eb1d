package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

var (
	byAuth = actor{kind: eventv1.Actor_SERVICE, name: "auth"}
	byAda  = actor{kind: eventv1.Actor_AGENT, name: "accounts/acme/agents/a", displayName: "Ada"}
	first  = enforcement.Settings{GracePeriod: 7 * 24 * time.Hour}
)

// onBoth runs the suite every store must pass on each of them.
func onBoth(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, openStore(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, openStore(t, testkit.Postgres(t))) })
}

func openStore(t *testing.T, url string) *store {
	t.Helper()
	db, err := sqldb.Open(t.Context(), url, Schema)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), Migrations()))
	return &store{db: db}
}

// to is an update to some settings, by the rule and nothing else.
func to(account string, settings enforcement.Settings) update {
	return update{
		account: account, by: byAda,
		decide: change{
			fields: []string{fieldEnforced, fieldGracePeriod, fieldApplyToSSO}, desired: settings, mayEnable: true,
		}.decide,
	}
}

func count(t *testing.T, db *sqldb.DB, table string) int {
	var n int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// The tables of other packages are as those packages want them.
func TestMigrations_holdTheSchemasOfOthers(t *testing.T) {
	init, err := fs.ReadFile(Migrations(), "0001_init.sql")
	require.NoError(t, err)
	require.Contains(t, string(init), idempotency.Schema)
	require.Contains(t, string(init), outbox.Schema)
	for file, schema := range map[string]string{
		"0002_audit.postgres.sql": audit.ImmutablePostgres,
		"0002_audit.sqlite.sql":   audit.ImmutableSQLite,
	} {
		migration, err := fs.ReadFile(Migrations(), file)
		require.NoError(t, err)
		require.Contains(t, string(migration), audit.Schema, file)
		require.Contains(t, string(migration), schema, file)
	}
}

func TestStore_roundTrip(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		_, err := s.get(t.Context(), "acme")
		require.ErrorIs(t, err, resource.ErrNotFound)
		_, err = s.update(t.Context(), to("acme", first))
		require.ErrorIs(t, err, resource.ErrNotFound)

		created, err := s.create(t.Context(), "acme", first, byAuth)
		require.NoError(t, err)
		require.Equal(t, first, created.Settings)
		got, err := s.get(t.Context(), "acme")
		require.NoError(t, err)
		require.Equal(t, created, got)
		again, err := s.create(t.Context(), "acme", enforcement.Settings{GracePeriod: time.Hour}, byAda)
		require.NoError(t, err)
		require.Equal(t, created, again)
		require.Equal(t, 1, count(t, s.db, "mfa_policy_revisions"))

		// Microseconds survive, and so does every field.
		settings := enforcement.Settings{Enforced: true, GracePeriod: time.Hour + time.Microsecond, ApplyToSSO: true}
		result, err := s.update(t.Context(), to("acme", settings))
		require.NoError(t, err)
		require.Equal(t, enforcement.Enabled, result.transition)
		got, err = s.get(t.Context(), "acme")
		require.NoError(t, err)
		require.Equal(t, settings, got.Settings)
		require.EqualValues(t, 2, got.Revision)
		require.Equal(t, got.updateTime, got.EnforceTime)
		require.Equal(t, result.answer.GetMfaPolicy().GetEtag(), got.etag())

		revisions, err := s.revisions(t.Context(), "acme", 0, 10)
		require.NoError(t, err)
		require.Equal(t, []revision{{policy: got, actor: byAda}, {policy: created, actor: byAuth}}, revisions)
		revisions, err = s.revisions(t.Context(), "acme", 2, 10)
		require.NoError(t, err)
		require.Len(t, revisions, 1)
	})
}

func TestStore_update_allOrNothing(t *testing.T) {
	errRefused := errs.New(codes.Aborted, errs.ReasonEtagMismatch, "no")
	onBoth(t, func(t *testing.T, s *store) {
		created, err := s.create(t.Context(), "acme", first, byAuth)
		require.NoError(t, err)
		enable := to("acme", enforcement.Settings{Enforced: true, GracePeriod: time.Hour})
		enable.request = idempotency.Key{Scope: "acme", RequestID: "one", Method: "m"}
		enable.fingerprint = idempotency.Fingerprint{Sum: []byte("x")}

		requireUntouched := func(revisions int) {
			got, err := s.get(t.Context(), "acme")
			require.NoError(t, err)
			require.Equal(t, created, got)
			require.Equal(t, revisions, count(t, s.db, "mfa_policy_revisions"))
			require.Zero(t, count(t, s.db, "outbox"))
			require.Zero(t, count(t, s.db, "request_ids"))
		}
		refused := enable
		refused.decide = func(policy, time.Time) (outcome, error) { return outcome{}, errRefused }
		_, err = s.update(t.Context(), refused)
		require.ErrorIs(t, err, errRefused)
		requireUntouched(1)

		// The last statements fail: the revision, then the event.
		_, err = s.db.Exec(t.Context(), `INSERT INTO mfa_policy_revisions VALUES ('acme', 2, FALSE, 0, FALSE, 0, 0, '', '', '', 0)`)
		require.NoError(t, err)
		_, err = s.update(t.Context(), enable)
		require.True(t, sqldb.IsUniqueViolation(err), "%v", err)
		requireUntouched(2)
		_, err = s.db.Exec(t.Context(), `DELETE FROM mfa_policy_revisions WHERE revision = 2`)
		require.NoError(t, err)
		_, err = s.db.Exec(t.Context(), `ALTER TABLE outbox RENAME TO elsewhere`)
		require.NoError(t, err)
		_, err = s.update(t.Context(), enable)
		require.Error(t, err)
		_, err = s.db.Exec(t.Context(), `ALTER TABLE elsewhere RENAME TO outbox`)
		require.NoError(t, err)
		requireUntouched(1)

		_, err = s.update(t.Context(), enable)
		require.NoError(t, err)
		require.Equal(t, 1, count(t, s.db, "outbox"))
	})
}

// The time of a change is that of its turn, not of its arrival.
func TestStore_update_waitsAndDecidesWithItsOwnTime(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		_, err := s.create(t.Context(), "acme", first, byAuth)
		require.NoError(t, err)
		inside, release := make(chan struct{}), make(chan struct{})
		slow := to("acme", enforcement.Settings{Enforced: true, GracePeriod: time.Hour})
		decide := slow.decide
		slow.decide = func(current policy, now time.Time) (outcome, error) {
			close(inside)
			<-release
			return decide(current, now)
		}
		results := make(chan error, 2)
		go func() {
			_, err := s.update(t.Context(), slow)
			results <- err
		}()
		<-inside
		go func() {
			_, err := s.update(t.Context(), to("acme", enforcement.Settings{GracePeriod: time.Hour}))
			results <- err
		}()
		opened, err := s.db.Now(t.Context())
		require.NoError(t, err)
		// Time passes, by the clock of the database, while the other waits.
		require.Eventually(t, func() bool {
			now, err := s.db.Now(t.Context())
			return err == nil && now.Sub(opened) > 20*time.Millisecond
		}, 10*time.Second, time.Millisecond)
		released, err := s.db.Now(t.Context())
		require.NoError(t, err)
		close(release)
		require.NoError(t, errors.Join(<-results, <-results))

		revisions, err := s.revisions(t.Context(), "acme", 0, 10)
		require.NoError(t, err)
		require.Len(t, revisions, 3)
		require.False(t, revisions[0].Enforced, "the one that waited came second")
		require.False(t, revisions[0].updateTime.Before(released))
	})
}

func TestStore_enforced_pages(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		for i := range 7 {
			account := fmt.Sprint("account-", i)
			_, err := s.create(t.Context(), account, first, byAuth)
			require.NoError(t, err)
			if i%2 == 0 {
				_, err = s.update(t.Context(), to(account, enforcement.Settings{Enforced: true, GracePeriod: time.Hour}))
				require.NoError(t, err)
			}
		}
		var got []string
		after := ""
		for {
			page, err := s.enforced(t.Context(), after, 3)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			for _, p := range page {
				require.True(t, p.Enforced)
				got = append(got, p.account)
			}
			after = page[len(page)-1].account
		}
		require.Equal(t, []string{"account-0", "account-2", "account-4", "account-6"}, got)
	})
}
