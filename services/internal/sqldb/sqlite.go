package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// sqliteReaders is the size of the read pool. Readers do not block each other or
// the writer in WAL mode; each costs a page cache.
const sqliteReaders = 8

func openSQLite(ctx context.Context, rawURL, schema string) (*DB, error) {
	dir, err := sqliteDir(rawURL)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	path := filepath.Join(dir, schema+".db")
	// SQLite would create the file readable by everybody whom the umask lets;
	// its -wal and -shm files take over the mode of this one.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator chooses the directory
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}

	db := &DB{dialect: sqlite, schema: schema, migrateLock: path + ".migrate"}
	if db.write, err = sql.Open("sqlite", sqliteDSN(path, true)); err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	// One writer: a second would only wait for the first, and waiting in the
	// pool is fair and ends with the context.
	db.write.SetMaxOpenConns(1)
	db.write.SetMaxIdleConns(1)
	// The writer first: it turns WAL on, which the file then remembers.
	if err := db.write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: open %s: %w", path, err), db.write.Close())
	}

	if db.read, err = sql.Open("sqlite", sqliteDSN(path, false)); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: %w", err), db.write.Close())
	}
	db.read.SetMaxOpenConns(sqliteReaders)
	db.read.SetMaxIdleConns(sqliteReaders)
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// sqliteDir takes `sqlite:relative/dir`, `sqlite:/dir` and `sqlite:///dir`.
func sqliteDir(rawURL string) (string, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return "", err
	}
	if u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("sqldb: a SQLite URL is sqlite:DIR, without host or parameters")
	}
	dir := u.Path
	if u.Opaque != "" {
		if dir, err = url.PathUnescape(u.Opaque); err != nil {
			return "", errors.New("sqldb: malformed SQLite URL")
		}
	}
	if dir == "" {
		return "", errors.New("sqldb: a SQLite URL names a directory: sqlite:DIR")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("sqldb: %w", err)
	}
	return abs, nil
}

func sqliteDSN(path string, writer bool) string {
	query := url.Values{}
	// First of all: the pragmas below may themselves have to wait.
	query.Add("_pragma", "busy_timeout(5000)")
	query.Add("_pragma", "foreign_keys(1)")
	if writer {
		query.Set("_txlock", "immediate")
		query.Add("_pragma", "journal_mode(WAL)")
		// NORMAL would lose the last transactions of a machine that loses power.
		query.Add("_pragma", "synchronous(FULL)")
	} else {
		query.Add("_pragma", "query_only(1)")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}
