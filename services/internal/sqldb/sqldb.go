package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// ErrNoRows is returned by Row.Scan when a query found nothing.
var ErrNoRows = sql.ErrNoRows

// ErrNestedTx is returned when a transaction callback uses the DB for a write
// instead of its Tx. On SQLite that would wait for itself for ever; it is
// refused on PostgreSQL too, so that both behave alike.
var ErrNestedTx = errors.New("sqldb: write outside the transaction from inside its callback")

// validSchema keeps a schema usable, unquoted, as a PostgreSQL schema and as a
// file name.
var validSchema = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

type dialect int

const (
	postgres dialect = iota + 1
	sqlite
)

// DB is one service's database. It is safe for concurrent use.
type DB struct {
	dialect dialect
	schema  string
	// write carries transactions and Exec, read everything else. They are the
	// same pool on PostgreSQL. On SQLite write holds exactly one connection.
	write, read *sql.DB
	// migrateLock is the file that keeps two processes from migrating one
	// SQLite database at the same time.
	migrateLock string
	binds       rebinder
}

// Open opens the database at rawURL for one service.
//
// `postgres://…` takes what libpq takes, and `pool_max_conns` (default 16); the
// schema is created when it is missing and is the connection's search_path.
// `sqlite:DIR` keeps the file `SCHEMA.db` in DIR, which is created when it is
// missing.
func Open(ctx context.Context, rawURL, schema string) (*DB, error) {
	if !validSchema.MatchString(schema) {
		return nil, fmt.Errorf("sqldb: schema %q does not match %s", schema, validSchema)
	}

	scheme, _, found := strings.Cut(rawURL, ":")
	if !found {
		// The URL may hold a password, so it is not part of the message.
		return nil, errors.New("sqldb: database URL has no scheme; want postgres://… or sqlite:…")
	}
	switch strings.ToLower(scheme) {
	case "postgres", "postgresql":
		return openPostgres(ctx, rawURL, schema)
	case "sqlite":
		return openSQLite(ctx, rawURL, schema)
	default:
		return nil, errors.New("sqldb: unknown database URL scheme; want postgres://… or sqlite:…")
	}
}

// parseURL parses without ever repeating the URL, and so a password, in an error.
func parseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("sqldb: malformed database URL")
	}
	return u, nil
}

// Close closes all connections.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	if err := db.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
		return fmt.Errorf("sqldb: ping: %w", err)
	}
	return nil
}

// Schema is the name Open was given.
func (db *DB) Schema() string { return db.schema }

// Dialect is "postgres" or "sqlite", for logs and tests. Statements do not
// depend on it.
func (db *DB) Dialect() string {
	if db.dialect == sqlite {
		return "sqlite"
	}
	return "postgres"
}

// Exec runs one statement in a transaction of its own. Unlike InTx it is never
// repeated.
func (db *DB) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if db.insideTx(ctx) {
		return nil, ErrNestedTx
	}
	res, err := db.write.ExecContext(ctx, db.rebind(query), args...)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	return res, nil
}

// Query reads. On SQLite it uses connections that cannot write, so a statement
// with RETURNING belongs in InTx.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := db.read.QueryContext(ctx, db.rebind(query), args...)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	return rows, nil
}

// QueryRow reads at most one row; see Query.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return db.read.QueryRowContext(ctx, db.rebind(query), args...)
}

// Now is the SQL clock, by which everything that is decided by time is decided.
//
// PostgreSQL's has microseconds. SQLite's has milliseconds: all its time
// functions count in those.
func (db *DB) Now(ctx context.Context) (time.Time, error) {
	return scanNow(db.QueryRow(ctx, "SELECT "+db.NowExpr()))
}

// NowExpr is the SQL clock as an expression, in microseconds since the Unix
// epoch. It is the clock at the moment it is read and not, as PostgreSQL's now()
// would be, at the begin of the transaction: a transaction that waited for a row
// lock must not decide with the time at which it began to wait.
func (db *DB) NowExpr() string {
	if db.dialect == sqlite {
		return "CAST(ROUND(unixepoch('subsec') * 1000.0) AS BIGINT) * 1000"
	}
	return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
}

// ForUpdate ends a SELECT whose rows the transaction is about to change.
func (db *DB) ForUpdate() string {
	if db.dialect == sqlite {
		return ""
	}
	return " FOR UPDATE"
}

// SkipLocked ends a SELECT that claims rows and leaves those alone which another
// transaction is claiming.
func (db *DB) SkipLocked() string {
	if db.dialect == sqlite {
		return ""
	}
	return " FOR UPDATE SKIP LOCKED"
}

func (db *DB) rebind(query string) string {
	if db.dialect == sqlite {
		return query
	}
	return db.binds.rebind(query)
}

func scanNow(row *sql.Row) (time.Time, error) {
	var micros int64
	if err := row.Scan(&micros); err != nil {
		return time.Time{}, fmt.Errorf("sqldb: read the SQL clock: %w", err)
	}
	return FromMicros(micros), nil
}

// Micros is how a time is stored. The zero time is stored as 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the time that Micros stored, in UTC. 0 is the zero time.
func FromMicros(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// Placeholders is a list of n placeholders for an IN clause.
func Placeholders(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}
