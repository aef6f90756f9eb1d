package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// maxTxAttempts bounds the repetitions after serialization failures,
	// deadlocks and a busy SQLite. With the pauses between them they take at
	// most some two seconds, and never longer than the caller's deadline.
	maxTxAttempts = 12
	// maxLostAttempts bounds the repetitions after a connection broke before
	// COMMIT: enough to get past connections that died in the pool when the
	// server restarted, too few to make a caller wait for a server that is down.
	maxLostAttempts = 3

	minTxPause = 4 * time.Millisecond
	maxTxPause = 250 * time.Millisecond
)

// ErrCommitUnknown is returned by InTx when COMMIT was sent and its answer was
// lost: the transaction may have taken effect.
var ErrCommitUnknown = errors.New("sqldb: the outcome of COMMIT is unknown")

// Tx is a transaction, valid inside the callback of InTx only.
type Tx struct {
	db *DB
	tx *sql.Tx
}

// txKey marks the context of a transaction callback with the DB it runs on.
type txKey struct{ db *DB }

func (db *DB) insideTx(ctx context.Context) bool { return ctx.Value(txKey{db}) != nil }

// InTx runs fn in a transaction and commits it when fn returns nil. It repeats
// fn when the database asks for it, so fn must not have effects outside tx. An
// error of fn is returned as it is.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	if db.insideTx(ctx) {
		return ErrNestedTx
	}
	lost := 0
	for attempt := 1; ; attempt++ {
		err := db.tryTx(ctx, fn)
		if err == nil || errors.Is(err, ErrCommitUnknown) || ctx.Err() != nil {
			return err
		}
		switch {
		case isRepeatable(err):
		case isConnectionLost(err):
			lost++
		default:
			return err
		}
		if attempt >= maxTxAttempts || lost >= maxLostAttempts {
			return err
		}
		if waitErr := pause(ctx, txPause(attempt)); waitErr != nil {
			return errors.Join(waitErr, err)
		}
	}
}

func (db *DB) tryTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	sqlTx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqldb: begin: %w", err)
	}
	// Also after a panic of fn; after COMMIT it does nothing. Its own error adds
	// nothing to the one already on its way: the server rolls back as well when
	// the connection is gone.
	defer sqlTx.Rollback() //nolint:errcheck // see above

	if err := fn(context.WithValue(ctx, txKey{db}, true), &Tx{db: db, tx: sqlTx}); err != nil {
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		if isRolledBack(err) {
			return fmt.Errorf("sqldb: commit: %w", err)
		}
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return nil
}

// Exec runs a statement that returns no rows.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := tx.tx.ExecContext(ctx, tx.db.rebind(query), args...)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	return res, nil
}

// Query runs a statement that returns rows. They must be closed before the next
// statement of the transaction.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := tx.tx.QueryContext(ctx, tx.db.rebind(query), args...)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	return rows, nil
}

// QueryRow runs a statement that returns at most one row.
func (tx *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(ctx, tx.db.rebind(query), args...)
}

// Now is the SQL clock; see DB.Now.
func (tx *Tx) Now(ctx context.Context) (time.Time, error) {
	return scanNow(tx.QueryRow(ctx, "SELECT "+tx.db.NowExpr()))
}

// Schema is DB.Schema, for packages whose tables stand in the schemas of others.
func (tx *Tx) Schema() string { return tx.db.Schema() }

// ForUpdate is DB.ForUpdate, for stores whose statements only see the Tx.
func (tx *Tx) ForUpdate() string { return tx.db.ForUpdate() }

// SkipLocked is DB.SkipLocked, for stores whose statements only see the Tx.
func (tx *Tx) SkipLocked() string { return tx.db.SkipLocked() }

// NowExpr is DB.NowExpr, for stores whose statements only see the Tx.
func (tx *Tx) NowExpr() string { return tx.db.NowExpr() }

// txPause grows with each attempt and is random, so that transactions that
// collided do not collide again in step.
func txPause(attempt int) time.Duration {
	ceiling := min(minTxPause<<attempt, maxTxPause)
	return rand.N(ceiling) + time.Millisecond //nolint:gosec // jitter is no secret
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
