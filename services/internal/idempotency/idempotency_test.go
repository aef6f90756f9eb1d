package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

var migrations = fstest.MapFS{"0001_init.sql": {Data: []byte("-- +goose Up\n" + idempotency.Schema + `
CREATE TABLE effects (id TEXT NOT NULL);
-- +goose Down
DROP TABLE effects;
DROP TABLE request_ids;
`)}}

var errUndone = errors.New("undone")

func onBoth(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	run := func(t *testing.T, url string) {
		db, err := sqldb.Open(t.Context(), url, "things")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), migrations))
		test(t, db)
	}
	t.Run("sqlite", func(t *testing.T) { run(t, testkit.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { run(t, testkit.Postgres(t)) })
}

func keyOf(id string) idempotency.Key {
	return idempotency.Key{Scope: "acme", RequestID: id, Method: "/twofold.test.v1.Things/Make"}
}

func contentOf(t require.TestingT, text string) idempotency.Fingerprint {
	fp, err := idempotency.OfMessage(structpb.NewStringValue(text))
	require.NoError(t, err)
	return fp
}

// do makes one request whose effect is a row, and answers with `answer`.
func do(ctx context.Context, db *sqldb.DB, key idempotency.Key, fp idempotency.Fingerprint, answer string) (string, error) {
	var got []byte
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		stored, found, err := idempotency.Begin(ctx, tx, key, fp)
		if err != nil || found {
			got = stored
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO effects (id) VALUES (?)`, key.RequestID); err != nil {
			return err
		}
		got = []byte(answer)
		return idempotency.Save(ctx, tx, key, got)
	})
	return string(got), err
}

func effects(t *testing.T, db *sqldb.DB, id string) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM effects WHERE id = ?`, id).Scan(&n))
	return n
}

func rows(t *testing.T, db *sqldb.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM request_ids`).Scan(&n))
	return n
}

// age moves a row into the past.
func age(t *testing.T, db *sqldb.DB, by time.Duration) {
	t.Helper()
	_, err := db.Exec(t.Context(), `UPDATE request_ids SET create_time = create_time - ?`, by.Microseconds())
	require.NoError(t, err)
}

func TestBegin_sameContent_firstAnswerAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for i, answer := range []string{"first", "second"} {
			got, err := do(t.Context(), db, keyOf("a"), contentOf(t, "x"), answer)
			require.NoError(t, err)
			require.Equal(t, "first", got, "call %d", i)
		}
		require.Equal(t, 1, effects(t, db, "a"))
	})
}

func TestBegin_emptyAnswer_isAnAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for range 2 {
			_, err := do(t.Context(), db, keyOf("a"), contentOf(t, "x"), "")
			require.NoError(t, err)
		}
		require.Equal(t, 1, effects(t, db, "a"))
	})
}

func TestNewKey(t *testing.T) {
	key, err := idempotency.NewKey("acme", "m", "7f3c Ä")
	require.NoError(t, err)
	require.Equal(t, idempotency.Key{Scope: "acme", RequestID: "7f3c Ä", Method: "m"}, key)
	for _, id := range []string{"\x00", "a\nb", "a\x7f"} {
		_, err := idempotency.NewKey("acme", "m", id)
		require.Equal(t, errs.ReasonInvalidField, errs.ReasonOf(err), "%q", id)
	}
}

// once adds to an effect and answers with how often that was done.
func once(t *testing.T, db *sqldb.DB, key idempotency.Key, then func(tx *sqldb.Tx)) (answer int64, found bool, err error) {
	t.Helper()
	got := &wrapperspb.Int64Value{}
	found, err = idempotency.Once(t.Context(), db, key, contentOf(t, "x"), got, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO effects (id) VALUES (?)`, uuid.NewString()); err != nil {
			return err
		}
		then(tx)
		return tx.QueryRow(ctx, `SELECT count(*) FROM effects`).Scan(&got.Value)
	})
	return got.GetValue(), found, err
}

func TestOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 3 {
			answer, found, err := once(t, db, keyOf("a"), func(*sqldb.Tx) {})
			require.NoError(t, err)
			require.Equal(t, i > 0, found)
			require.EqualValues(t, 1, answer)
		}
	})
}

// A COMMIT whose answer is lost leaves open whether the change was made; the
// caller is told what to do about it, and need not wonder what "not reachable"
// means for it.
func TestOnce_commitUnknown_saysHowToRepeat(t *testing.T) {
	url := testkit.Postgres(t)
	db, err := sqldb.Open(t.Context(), url, "things")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), migrations))
	// endedBefore ends the transaction's connection before its COMMIT.
	endedBefore := func(tx *sqldb.Tx) {
		_, err := tx.Exec(t.Context(), `CREATE OR REPLACE FUNCTION pg_temp.die() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `CREATE CONSTRAINT TRIGGER die AFTER INSERT ON effects
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.die()`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `INSERT INTO effects (id) VALUES ('last')`)
		require.NoError(t, err)
	}
	for id, want := range map[string]string{"": "Look before you repeat it.", "a": "with the same request_id"} {
		_, _, err := once(t, db, keyOf(id), endedBefore)
		require.ErrorIs(t, err, sqldb.ErrCommitUnknown)
		refusal := errs.From(err)
		require.Equal(t, codes.Unavailable, refusal.Code())
		require.Equal(t, errs.ReasonDependencyUnavailable, refusal.Reason())
		require.Contains(t, refusal.Message(), want)
	}
	answer, found, err := once(t, db, keyOf("a"), func(*sqldb.Tx) {})
	require.NoError(t, err, "it was not done, so it is now")
	require.False(t, found)
	require.EqualValues(t, 1, answer)
}

func TestBegin_otherRequest_refused(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		_, err := do(t.Context(), db, keyOf("a"), contentOf(t, "x"), "first")
		require.NoError(t, err)

		_, err = do(t.Context(), db, keyOf("a"), contentOf(t, "y"), "second")
		require.ErrorIs(t, err, idempotency.ErrReused)
		otherMethod := keyOf("a")
		otherMethod.Method = "/twofold.test.v1.Things/Break"
		_, err = do(t.Context(), db, otherMethod, contentOf(t, "x"), "second")
		require.ErrorIs(t, err, idempotency.ErrReused)
		require.Equal(t, 1, effects(t, db, "a"))

		// The same id of another account is another request.
		otherScope := keyOf("a")
		otherScope.Scope = "globex"
		got, err := do(t.Context(), db, otherScope, contentOf(t, "y"), "second")
		require.NoError(t, err)
		require.Equal(t, "second", got)
	})
}

func TestBegin_withoutID_remembersNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for _, answer := range []string{"first", "second"} {
			got, err := do(t.Context(), db, keyOf(""), contentOf(t, "x"), answer)
			require.NoError(t, err)
			require.Equal(t, answer, got)
		}
		require.Equal(t, 2, effects(t, db, ""))
		require.Zero(t, rows(t, db))
	})
}

func TestBegin_afterRollback_anew(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, found, err := idempotency.Begin(ctx, tx, keyOf("a"), contentOf(t, "x"))
			require.NoError(t, err)
			require.False(t, found)
			return errUndone
		})
		require.ErrorIs(t, err, errUndone)
		got, err := do(t.Context(), db, keyOf("a"), contentOf(t, "another try"), "second")
		require.NoError(t, err)
		require.Equal(t, "second", got)
	})
}

func TestBegin_keyedFingerprint_decidesItself(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		_, err := do(t.Context(), db, keyOf("a"), idempotency.Fingerprint{Sum: []byte("old key: x")}, "first")
		require.NoError(t, err)
		sameUnderNewKey := idempotency.Fingerprint{
			Sum:     []byte("new key: x"),
			Matches: func(stored []byte) bool { return bytes.HasSuffix(stored, []byte(": x")) },
		}
		got, err := do(t.Context(), db, keyOf("a"), sameUnderNewKey, "second")
		require.NoError(t, err)
		require.Equal(t, "first", got)
	})
}

func TestBegin_afterLifetime_anew(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		_, err := do(t.Context(), db, keyOf("a"), contentOf(t, "x"), "first")
		require.NoError(t, err)

		age(t, db, idempotency.Lifetime-time.Minute)
		_, err = do(t.Context(), db, keyOf("a"), contentOf(t, "y"), "second")
		require.ErrorIs(t, err, idempotency.ErrReused)

		age(t, db, time.Minute)
		got, err := do(t.Context(), db, keyOf("a"), contentOf(t, "y"), "second")
		require.NoError(t, err)
		require.Equal(t, "second", got)
		require.Equal(t, 2, effects(t, db, "a"))

		// The new use counts from now on, with its own content.
		got, err = do(t.Context(), db, keyOf("a"), contentOf(t, "y"), "third")
		require.NoError(t, err)
		require.Equal(t, "second", got)
	})
}

func TestBegin_together_oneEffect(t *testing.T) {
	const callers, rounds = 8, 25
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for round := range rounds {
			id := fmt.Sprint("round-", round)
			// Expired rows in the way of the claim and being removed meanwhile.
			if round%2 == 1 {
				_, err := do(t.Context(), db, keyOf(id), contentOf(t, "old"), "old")
				require.NoError(t, err)
				age(t, db, idempotency.Lifetime)
				_, err = db.Exec(t.Context(), `DELETE FROM effects`)
				require.NoError(t, err)
			}
			var wg sync.WaitGroup
			answers := make([]string, callers)
			for i := range callers {
				wg.Go(func() {
					var err error
					answers[i], err = do(t.Context(), db, keyOf(id), contentOf(t, "x"), fmt.Sprint("answer ", i))
					if err != nil {
						t.Errorf("caller %d: %v", i, err)
					}
				})
			}
			wg.Go(func() {
				if _, err := idempotency.RemoveExpired(t.Context(), db, 10); err != nil {
					t.Errorf("remove: %v", err)
				}
			})
			wg.Wait()
			require.Equal(t, 1, effects(t, db, id), id)
			for _, answer := range answers {
				require.Equal(t, answers[0], answer)
			}
		}
	})
}

// The first of two holders of an id fails; the one that waited takes over.
func TestBegin_waitsForTheClaim_takesOverAfterRollback(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		content := contentOf(t, "x")
		claimed, release := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if _, _, err := idempotency.Begin(ctx, tx, keyOf("a"), content); err != nil {
					return err
				}
				close(claimed)
				<-release
				return errUndone
			})
		}()
		<-claimed
		var done atomic.Bool
		second := make(chan error, 1)
		go func() {
			_, err := do(t.Context(), db, keyOf("a"), content, "second")
			done.Store(true)
			second <- err
		}()
		require.Never(t, done.Load, 50*time.Millisecond, 10*time.Millisecond)
		close(release)
		require.ErrorIs(t, <-first, errUndone)
		require.NoError(t, <-second)
		require.Equal(t, 1, effects(t, db, "a"))
	})
}

func TestSave_withoutBegin_fails(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		require.Error(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return idempotency.Save(ctx, tx, keyOf("a"), nil)
		}))
	})
}

func TestBegin_claimWithoutAnswer_neverActsTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, _, err := idempotency.Begin(ctx, tx, keyOf("a"), contentOf(t, "x"))
			return err
		}))
		_, err := do(t.Context(), db, keyOf("a"), contentOf(t, "x"), "second")
		require.Error(t, err)
		require.Zero(t, effects(t, db, "a"))
	})
}

func TestRemoveExpired_inBatches(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		for i := range 5 {
			_, err := do(t.Context(), db, keyOf(fmt.Sprint("old-", i)), contentOf(t, "x"), "y")
			require.NoError(t, err)
		}
		age(t, db, idempotency.Lifetime)
		_, err := do(t.Context(), db, keyOf("young"), contentOf(t, "x"), "y")
		require.NoError(t, err)

		for _, want := range []int{2, 2, 1, 0} {
			removed, err := idempotency.RemoveExpired(t.Context(), db, 2)
			require.NoError(t, err)
			require.Equal(t, want, removed)
		}
		require.Equal(t, 1, rows(t, db))
	})
}
