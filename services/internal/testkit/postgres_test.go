package testkit_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestPostgres_eachTestHasItsOwnDatabase(t *testing.T) {
	first, second := openPostgres(t, testkit.Postgres(t)), openPostgres(t, testkit.Postgres(t))

	_, err := first.ExecContext(t.Context(), "CREATE TABLE things (id int)")
	require.NoError(t, err)
	_, err = second.ExecContext(t.Context(), "SELECT id FROM things")
	require.ErrorContains(t, err, "does not exist")
}

func TestPostgres_databaseIsDroppedWithOpenConnections(t *testing.T) {
	var name string
	t.Run("inner", func(t *testing.T) {
		db, err := sql.Open("pgx", testkit.Postgres(t)) // left open on purpose
		require.NoError(t, err)
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name))
	})
	var left int
	db := openPostgres(t, testkit.Postgres(t))
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&left))
	require.Zero(t, left)
}

// A private server keeps what was committed before SIGKILL, on the same URL:
// what crash tests of the services build on.
func TestPrivatePostgres_keepsCommittedDataOverKill(t *testing.T) {
	server := testkit.PrivatePostgres(t)
	db := openPostgres(t, server.URL())
	_, err := db.ExecContext(t.Context(), "CREATE TABLE things AS SELECT 7 AS id")
	require.NoError(t, err)

	server.Kill(t)
	require.Error(t, db.PingContext(t.Context()))
	server.Start(t)

	var id int
	require.NoError(t, openPostgres(t, server.URL()).QueryRowContext(t.Context(), "SELECT id FROM things").Scan(&id))
	require.Equal(t, 7, id)

	server.Stop(t)
	require.Error(t, openPostgres(t, server.URL()).PingContext(t.Context()))
}

func TestSQLite_namesAnEmptyDirectory(t *testing.T) {
	first, second := testkit.SQLite(t), testkit.SQLite(t)
	require.Regexp(t, `^sqlite:/`, first)
	require.NotEqual(t, first, second)
}

func openPostgres(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
