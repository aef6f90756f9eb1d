package sqldb_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const schema = "things"

var migrations = fstest.MapFS{"0001_init.sql": {Data: []byte(`-- +goose Up
CREATE TABLE things (
    id          TEXT NOT NULL PRIMARY KEY,
    n           BIGINT NOT NULL,
    secret      BYTEA,
    on_off      BOOLEAN NOT NULL DEFAULT FALSE,
    create_time BIGINT NOT NULL
);
-- A question mark, in a comment?
CREATE UNIQUE INDEX things_n ON things (n);
-- +goose Down
DROP TABLE things;
`)}}

// onBoth runs a test on each database the services support.
func onBoth(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, testkit.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, testkit.Postgres(t)) })
}

func open(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), url, schema)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func migrated(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db := open(t, url)
	require.NoError(t, db.Migrate(t.Context(), migrations))
	return db
}

func insert(ctx context.Context, tx *sqldb.Tx, id string, n int) error {
	_, err := tx.Exec(ctx, `INSERT INTO things (id, n, create_time) VALUES (?, ?, ?)`, id, n, 1)
	return err
}

func numberOf(t *testing.T, db *sqldb.DB, id string) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT n FROM things WHERE id = ?`, id).Scan(&n))
	return n
}

func TestStatements_meanTheSameOnBoth(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		db := migrated(t, url)
		created := time.Date(2026, 3, 4, 5, 6, 7, 891_234_000, time.UTC)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO things (id, n, secret, on_off, create_time) VALUES (?, ?, ?, ?, ?)`,
				"a?", 1, []byte{0, 0xff, '?'}, true, sqldb.Micros(created))
			return err
		}))

		var n int
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `INSERT INTO things (id, n, create_time) VALUES (?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET n = things.n + 1 RETURNING n`, "a?", 9, 0).Scan(&n)
		}))
		require.Equal(t, 2, n)

		var id string
		var secret []byte
		var on bool
		var micros int64
		require.NoError(t, db.QueryRow(t.Context(),
			`SELECT id, secret, on_off, create_time FROM things WHERE id = 'a?' AND n = ? AND on_off = ? AND n IN (`+sqldb.Placeholders(2)+`)`,
			2, true, 2, 3).Scan(&id, &secret, &on, &micros))
		require.Equal(t, "a?", id)
		require.Equal(t, []byte{0, 0xff, '?'}, secret)
		require.True(t, on)
		require.Equal(t, created, sqldb.FromMicros(micros))

		require.ErrorIs(t, db.QueryRow(t.Context(), `SELECT n FROM things WHERE id = ?`, "no").Scan(&n), sqldb.ErrNoRows)
	})
}

func TestNow_isTheClockAndMovesWithinATransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		db := open(t, url)
		now, err := db.Now(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), now, 5*time.Second)
		require.Equal(t, time.UTC, now.Location())

		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			first, err := tx.Now(ctx)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				later, err := tx.Now(ctx)
				require.NoError(t, err)
				return later.After(first)
			}, 5*time.Second, time.Millisecond)
			return nil
		}))
	})
}

func TestMicros_keepsTheZeroTime(t *testing.T) {
	require.Zero(t, sqldb.Micros(time.Time{}))
	require.True(t, sqldb.FromMicros(0).IsZero())
	require.Empty(t, sqldb.Placeholders(0))
	require.Equal(t, "?, ?, ?", sqldb.Placeholders(3))
}

func TestErrors_areRecognized(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		db := migrated(t, url)
		put := func(id string, n int) error {
			return db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, id, n) })
		}
		require.NoError(t, put("a", 1))
		for _, err := range []error{put("a", 2), put("b", 1)} {
			require.True(t, sqldb.IsUniqueViolation(err), "%v", err)
			require.False(t, sqldb.IsUnavailable(err))
		}
		_, err := db.Exec(t.Context(), `INSERT INTO things (id, n, create_time) VALUES (?, NULL, 1)`, "c")
		require.Error(t, err)
		require.False(t, sqldb.IsUniqueViolation(err))
		require.False(t, sqldb.IsUnavailable(err))

		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, sqldb.IsUnavailable(db.Ping(canceled)))
		require.False(t, sqldb.IsUnavailable(nil))
		require.False(t, sqldb.IsUniqueViolation(nil))
	})
}

func TestInTx_rollsBackOnErrorAndPanic(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		db := migrated(t, url)
		boom := errors.New("boom")
		calls := 0
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			calls++
			require.NoError(t, insert(ctx, tx, "a", 1))
			return boom
		})
		require.Equal(t, boom, err, "the callback's own error comes back as it is")
		require.Equal(t, 1, calls, "and is not repeated")
		require.PanicsWithValue(t, "boom", func() {
			_ = db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				require.NoError(t, insert(ctx, tx, "b", 2))
				panic("boom")
			})
		})
		var count int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&count))
		require.Zero(t, count)
	})
}

func TestInTx_refusesToWaitForItself(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		db := migrated(t, url)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, _ *sqldb.Tx) error {
			_, err := db.Exec(ctx, `DELETE FROM things`)
			require.ErrorIs(t, err, sqldb.ErrNestedTx)
			require.ErrorIs(t, db.InTx(ctx, func(context.Context, *sqldb.Tx) error { return nil }), sqldb.ErrNestedTx)
			return nil
		}))
	})
}

func TestInTx_losesNoUpdate(t *testing.T) {
	const writers, rounds = 20, 10
	onBoth(t, func(t *testing.T, url string) {
		// Two pools, as two copies of a service have.
		dbs := []*sqldb.DB{migrated(t, url), migrated(t, url)}
		require.NoError(t, dbs[0].InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, "a", 0) }))

		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				db := dbs[w%2]
				for range rounds {
					if err := db.InTx(t.Context(), increment("a")); err != nil {
						t.Errorf("increment: %v", err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, writers*rounds, numberOf(t, dbs[0], "a"))
	})
}

// increment reads and writes, which loses updates unless the read locks.
func increment(id string) func(context.Context, *sqldb.Tx) error {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `SELECT n FROM things WHERE id = ?`+tx.ForUpdate(), id).Scan(&n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE things SET n = ? WHERE id = ?`, n+1, id)
		return err
	}
}

func TestInTx_repeatsAfterDeadlock(t *testing.T) {
	db := migrated(t, testkit.Postgres(t))
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return errors.Join(insert(ctx, tx, "a", 1000), insert(ctx, tx, "b", 2000))
	}))

	// Each holds its first row until the other holds its own: a certain deadlock
	// on the first attempt, and none on the second.
	var held, done sync.WaitGroup
	held.Add(2)
	attempts := make([]int, 2)
	for i, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		done.Go(func() {
			err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				attempts[i]++
				if err := increment(order[0])(ctx, tx); err != nil {
					return err
				}
				if attempts[i] == 1 {
					held.Done()
					held.Wait()
				}
				return increment(order[1])(ctx, tx)
			})
			if err != nil {
				t.Errorf("transaction %d: %v", i, err)
			}
		})
	}
	done.Wait()
	require.Equal(t, 3, attempts[0]+attempts[1], "one of the two was repeated")
	require.Equal(t, 1002, numberOf(t, db, "a"))
	require.Equal(t, 2002, numberOf(t, db, "b"))
}

func TestInTx_repeatsWhenSQLiteStaysBusy(t *testing.T) {
	url := testkit.SQLite(t)
	one, other := migrated(t, url), migrated(t, url)
	locked, release := make(chan struct{}), make(chan struct{})
	holder := make(chan error, 1)
	go func() {
		holder <- one.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			close(locked)
			<-release
			return insert(ctx, tx, "a", 1)
		})
	}()
	<-locked

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := other.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, "b", 2) })
	require.True(t, sqldb.IsUnavailable(err), "%v", err)

	// Readers do not wait for a writer.
	require.NoError(t, other.Ping(t.Context()))

	waiter := make(chan error, 1)
	go func() {
		waiter <- other.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, "b", 2) })
	}()
	close(release)
	require.NoError(t, <-holder)
	require.NoError(t, <-waiter)
}

func TestSkipLocked_givesEachRowToOneClaimer(t *testing.T) {
	const rows, claimers = 60, 6
	onBoth(t, func(t *testing.T, url string) {
		db := migrated(t, url)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for i := range rows {
				if err := insert(ctx, tx, string(rune('A'+i)), i); err != nil {
					return err
				}
			}
			return nil
		}))

		claimed := make(chan string, rows*2)
		var wg sync.WaitGroup
		for range claimers {
			wg.Go(func() {
				for {
					ids, err := claim(t.Context(), db)
					if err != nil {
						t.Errorf("claim: %v", err)
						return
					}
					if len(ids) == 0 {
						return
					}
					for _, id := range ids {
						claimed <- id
					}
				}
			})
		}
		wg.Wait()
		close(claimed)
		seen := map[string]int{}
		for id := range claimed {
			seen[id]++
		}
		require.Len(t, seen, rows)
		for id, times := range seen {
			require.Equal(t, 1, times, id)
		}
	})
}

func claim(ctx context.Context, db *sqldb.DB) ([]string, error) {
	var ids []string
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		ids = nil
		rows, err := tx.Query(ctx, `UPDATE things SET on_off = TRUE WHERE id IN (
			SELECT id FROM things WHERE on_off = FALSE ORDER BY n LIMIT 7`+tx.SkipLocked()+`) RETURNING id`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	return ids, err
}

func TestMigrate_togetherFromManyProcesses(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				db, err := sqldb.Open(t.Context(), url, schema)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				if err := db.Migrate(t.Context(), migrations); err != nil {
					t.Errorf("migrate: %v", err)
				}
				if err := db.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		wg.Wait()
		db := open(t, url)
		var versions int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM goose_db_version WHERE version_id = 1`).Scan(&versions))
		require.Equal(t, 1, versions)
	})
}

func TestSchemas_doNotSeeEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		migrated(t, url)
		other, err := sqldb.Open(t.Context(), url, "others")
		require.NoError(t, err)
		defer func() { require.NoError(t, other.Close()) }()
		_, err = other.Exec(t.Context(), `DELETE FROM things`)
		require.Error(t, err)
	})
}

func TestSQLite_survivesACrashOfTheMachine(t *testing.T) {
	db := migrated(t, testkit.SQLite(t))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "PRAGMA "+pragma).Scan(&got)
		}))
		require.Equal(t, want, got, pragma)
	}
	// What reads cannot write.
	var id string
	require.Error(t, db.QueryRow(t.Context(), `INSERT INTO things (id, n, create_time) VALUES ('a', 1, 1) RETURNING id`).Scan(&id))
}

func TestSQLite_fileIsPrivateWhateverTheDirectoryIsCalled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "50% of ?#")
	db := migrated(t, "sqlite:"+strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", " ", "%20").Replace(dir))
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, "a", 1) }))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2)
	for _, file := range files {
		info, err := file.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, file.Name())
	}
}

func TestPostgres_comesBackAfterACrash(t *testing.T) {
	server := testkit.PrivatePostgres(t)
	db := migrated(t, server.URL())
	put := func(id string, n int) error {
		return db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return insert(ctx, tx, id, n) })
	}
	require.NoError(t, put("a", 1))

	server.Kill(t)
	err := put("b", 2)
	require.True(t, sqldb.IsUnavailable(err), "%v", err)
	require.True(t, sqldb.IsUnavailable(db.Ping(t.Context())))

	server.Start(t)
	require.NoError(t, put("b", 2), "without reopening, at the first call")
	require.Equal(t, 1, numberOf(t, db, "a"))
}

func TestPostgres_connectionLostInsideATransaction(t *testing.T) {
	db := migrated(t, testkit.Postgres(t))
	calls := 0
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		calls++
		if calls == 1 {
			var pid int
			require.NoError(t, tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid))
			var gone bool
			require.NoError(t, db.QueryRow(ctx, `SELECT pg_terminate_backend(?, 5000)`, pid).Scan(&gone))
			require.True(t, gone)
		}
		return insert(ctx, tx, "a", 1)
	}))
	require.Equal(t, 2, calls)
}

func TestOpen_refuses(t *testing.T) {
	for _, url := range []string{
		"", "postgres", "mysql://localhost/x", "sqlite:", "sqlite://host/dir", "sqlite:dir?mode=memory",
		"postgres://user:hunter2@127.0.0.1:bad/db", "postgres://user:hunter2@127.0.0.1/db?pool_max_conns=none",
	} {
		_, err := sqldb.Open(t.Context(), url, schema)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "hunter2", "passwords stay out of messages")
	}
	for _, name := range []string{"", "A", "a;b", "a-b", "../a", strings.Repeat("a", 49)} {
		_, err := sqldb.Open(t.Context(), testkit.SQLite(t), name)
		require.Error(t, err, name)
	}
}

func TestOpen_unreachable(t *testing.T) {
	_, err := sqldb.Open(t.Context(), "postgres://user:hunter2@127.0.0.1:1/db?sslmode=disable", schema)
	require.True(t, sqldb.IsUnavailable(err), "%v", err)
	require.NotContains(t, err.Error(), "hunter2")
}
