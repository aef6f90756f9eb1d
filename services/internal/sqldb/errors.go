package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	sqlitedriver "modernc.org/sqlite"
	sqlitecode "modernc.org/sqlite/lib"
)

// SQLSTATE values, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	pgUniqueViolation      = "23505"
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
	pgReadOnlyTransaction  = "25006" // the server became a standby
	pgLockNotAvailable     = "55P03"
	pgQueryCanceled        = "57014" // a statement_timeout of the server's
)

// IsUniqueViolation says whether a row with the same unique key exists.
func IsUniqueViolation(err error) bool {
	if pgErr := asPostgres(err); pgErr != nil {
		return pgErr.Code == pgUniqueViolation
	}
	code, ok := sqliteCode(err)
	return ok && (code == sqlitecode.SQLITE_CONSTRAINT_UNIQUE || code == sqlitecode.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// IsUnavailable says whether the database could not do its work for a reason
// that lies outside the statement and may pass: it cannot be reached, is
// starting, is overloaded, has no room left, or did not answer in time. Callers
// answer UNAVAILABLE. A canceled context is not unavailability: nobody waits for
// that answer anymore.
func IsUnavailable(err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, ErrCommitUnknown), errors.Is(err, context.DeadlineExceeded),
		isRepeatable(err), isConnectionLost(err):
		return true
	}
	if pgErr := asPostgres(err); pgErr != nil {
		switch pgErr.Code {
		case pgReadOnlyTransaction, pgLockNotAvailable, pgQueryCanceled:
			return true
		}
		// 53: out of memory, disk or connections; 58: I/O errors of the system.
		class := pgErr.Code[:min(2, len(pgErr.Code))]
		return class == "53" || class == "58"
	}
	code, ok := sqliteCode(err)
	if !ok {
		return false
	}
	switch code & 0xff {
	case sqlitecode.SQLITE_IOERR, sqlitecode.SQLITE_FULL, sqlitecode.SQLITE_CANTOPEN,
		sqlitecode.SQLITE_NOMEM, sqlitecode.SQLITE_PROTOCOL, sqlitecode.SQLITE_READONLY:
		return true
	}
	return false
}

// isRepeatable says whether the database rolled the transaction back only
// because of what others did at the same time.
func isRepeatable(err error) bool {
	if pgErr := asPostgres(err); pgErr != nil {
		return pgErr.Code == pgSerializationFailure || pgErr.Code == pgDeadlockDetected
	}
	code, ok := sqliteCode(err)
	return ok && (code&0xff == sqlitecode.SQLITE_BUSY || code&0xff == sqlitecode.SQLITE_LOCKED)
}

// isConnectionLost says whether there was no connection, or no longer one.
func isConnectionLost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if pgErr := asPostgres(err); pgErr != nil {
		// 08: connection exceptions; 57P01 to 57P03: shut down, crashed, starting.
		class := pgErr.Code[:min(2, len(pgErr.Code))]
		return class == "08" || pgErr.Code == "57P01" || pgErr.Code == "57P02" || pgErr.Code == "57P03"
	}
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	return errors.As(err, &connectErr) || errors.As(err, &netErr) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err)
}

// isRolledBack says whether a failed COMMIT certainly had no effect: the server
// said so, or COMMIT was never sent.
func isRolledBack(err error) bool {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, pgx.ErrTxCommitRollback) || pgconn.SafeToRetry(err) {
		return true
	}
	if pgErr := asPostgres(err); pgErr != nil {
		// 23: a deferred constraint; 40: transaction rollback. 40003 is
		// "statement completion unknown".
		class := pgErr.Code[:min(2, len(pgErr.Code))]
		return class == "23" || (class == "40" && pgErr.Code != "40003")
	}
	code, ok := sqliteCode(err)
	if !ok {
		return false
	}
	switch code & 0xff {
	case sqlitecode.SQLITE_BUSY, sqlitecode.SQLITE_LOCKED, sqlitecode.SQLITE_CONSTRAINT, sqlitecode.SQLITE_FULL:
		return true
	}
	return false
}

func asPostgres(err error) *pgconn.PgError {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr
	}
	return nil
}

func sqliteCode(err error) (int, bool) {
	var sqliteErr *sqlitedriver.Error
	if errors.As(err, &sqliteErr) {
		return sqliteErr.Code(), true
	}
	return 0, false
}
