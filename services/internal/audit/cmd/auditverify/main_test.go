package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// world has the databases of all services, with events of two accounts.
type world struct {
	t    *testing.T
	url  string
	auth *sqldb.DB
}

func newWorld(t *testing.T, url string) *world {
	w := &world{t: t, url: url}
	w.auth = open(t, url, "auth")
	for _, db := range []*sqldb.DB{open(t, url, "policy"), w.auth, open(t, url, "notifier")} {
		for _, account := range []string{"acme", "acme", "acme", "globex"} {
			w.append(db, account)
		}
	}
	return w
}

func (w *world) append(db *sqldb.DB, account string) {
	w.t.Helper()
	require.NoError(w.t, db.InTx(w.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return audit.Append(ctx, tx, audit.Entry{Account: account, Action: "agent.resetMfa"})
	}))
}

// open makes the tables of a service's audit log.
func open(t *testing.T, url, service string) *sqldb.DB {
	db, err := sqldb.Open(t.Context(), url, service)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	begin, end := "-- +goose Up\n"+audit.Schema+"-- +goose StatementBegin\n", "-- +goose StatementEnd\n"
	require.NoError(t, db.Migrate(t.Context(), fstest.MapFS{
		"0001_audit.postgres.sql": {Data: []byte(begin + audit.ImmutablePostgres + end)},
		"0001_audit.sqlite.sql":   {Data: []byte(begin + audit.ImmutableSQLite + end)},
	}))
	return db
}

// superuser runs statements on auth's database as somebody who may drop triggers.
func (w *world) superuser(statements ...string) {
	w.t.Helper()
	if w.auth.Dialect() == "postgres" {
		statements = append([]string{`ALTER TABLE audit_events DISABLE TRIGGER ALL`, `ALTER TABLE audit_chains DISABLE TRIGGER ALL`}, statements...)
	} else {
		statements = append([]string{
			`DROP TRIGGER audit_events_no_update`, `DROP TRIGGER audit_events_no_delete`, `DROP TRIGGER audit_chains_no_delete`,
		}, statements...)
	}
	for _, statement := range statements {
		_, err := w.auth.Exec(w.t.Context(), statement)
		require.NoError(w.t, err, statement)
	}
}

func (w *world) run(args ...string) (code int, stdout, stderr string) {
	var out, problems bytes.Buffer
	code = run(w.t.Context(), args, w.url, &out, &problems)
	return code, out.String(), problems.String()
}

func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newWorld(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, newWorld(t, testkit.Postgres(t))) })
}

func TestHolds_thenAnEditedRowIsNamed(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		code, out, problems := w.run()
		require.Equal(t, exitHolds, code, problems)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.Len(t, lines, 6)
		require.Regexp(t, `^policy acme 3 [0-9a-f]{64}$`, lines[0])
		require.Regexp(t, `^auth globex 1 [0-9a-f]{64}$`, lines[3])
		require.Regexp(t, `^notifier globex 1 [0-9a-f]{64}$`, lines[5])

		_, err := w.auth.Exec(t.Context(), `UPDATE audit_events SET result = 'DENIED' WHERE account = 'acme' AND sequence = 2`)
		require.ErrorContains(t, err, "append-only")
		w.superuser(`UPDATE audit_events SET result = 'DENIED' WHERE account = 'acme' AND sequence = 2`)
		code, out, problems = w.run()
		require.Equal(t, exitBroken, code)
		require.Equal(t, "BROKEN accounts/acme/auditEvents/auth-2: its content does not have its hash\n", problems)
		require.Equal(t, 5, strings.Count(out, "\n"), "the others hold")

		code, _, _ = w.run("-service", "policy")
		require.Equal(t, exitHolds, code)
		code, _, _ = w.run("-account", "globex")
		require.Equal(t, exitHolds, code)
	})
}

// What was printed earlier finds what the chains by themselves do not show.
func TestKnown_findsWhatWasWrittenAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		_, out, _ := w.run()
		known := filepath.Join(t.TempDir(), "known")
		require.NoError(t, os.WriteFile(known, []byte(out), 0o600))
		w.append(w.auth, "acme")
		code, _, problems := w.run("-known", known)
		require.Equal(t, exitHolds, code, problems)

		w.superuser(
			`DELETE FROM audit_events WHERE account = 'globex'`, `DELETE FROM audit_chains WHERE account = 'globex'`,
			`DELETE FROM audit_events WHERE account = 'acme'`, `DELETE FROM audit_chains WHERE account = 'acme'`,
		)
		for range 4 {
			w.append(w.auth, "acme")
		}
		code, _, _ = w.run()
		require.Equal(t, exitHolds, code, "in themselves they are whole")
		code, _, problems = w.run("-known", known)
		require.Equal(t, exitBroken, code)
		require.Contains(t, problems, "BROKEN accounts/acme/auditEvents/auth-3: ")
		require.Contains(t, problems, "BROKEN accounts/globex/auditEvents/auth-1: ")
	})
}

func TestUnknown(t *testing.T) {
	w := newWorld(t, testkit.SQLite(t))
	for _, args := range [][]string{{"-nonsense"}, {"-service", "session"}, {"argument"}, {"-known", filepath.Join(t.TempDir(), "none")}} {
		code, _, problems := w.run(args...)
		require.Equal(t, exitUnknown, code, args)
		require.NotEmpty(t, problems)
	}
	var problems bytes.Buffer
	require.Equal(t, exitUnknown, run(t.Context(), nil, "", &problems, &problems))
	require.Equal(t, exitUnknown, run(t.Context(), nil, testkit.SQLite(t), &problems, &problems), "no audit log there")
	require.Equal(t, exitUnknown, run(t.Context(), nil, "postgres://user:hidden@127.0.0.1:1/x", &problems, &problems))
	require.NotContains(t, problems.String(), "hidden")
}
