package sqldb

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"golang.org/x/sys/unix"
)

const (
	// A migration may wait this long for another process that is migrating.
	migrateWaitSeconds = 300
	fileLockPoll       = 20 * time.Millisecond
)

// Migrate brings the schema up to date with the goose migrations in the root of
// migrations. Several processes may call it at the same time: one works, the
// others wait. A migration must be portable and must run in a transaction, which
// is goose's default. Where there is no portable way, a migration has one file for
// each database: `0003_name.postgres.sql` and `0003_name.sqlite.sql`.
func (db *DB) Migrate(ctx context.Context, migrations fs.FS) (err error) {
	dialectName := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if db.dialect == postgres {
		dialectName = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(
			// Other schemas of the same database need not wait.
			lock.WithLockID(int64(crc32.ChecksumIEEE([]byte("twofold-"+db.schema)))),
			lock.WithLockTimeout(1, migrateWaitSeconds),
		)
		if err != nil {
			return fmt.Errorf("sqldb: migrate: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	} else {
		unlock, err := lockFile(ctx, db.migrateLock)
		if err != nil {
			return fmt.Errorf("sqldb: migrate: %w", err)
		}
		defer unlock()
	}

	// The provider is not closed: that would close the pool, which is ours.
	provider, err := goose.NewProvider(dialectName, db.write, migrationsFor{migrations, db.Dialect()}, opts...)
	if err != nil {
		return fmt.Errorf("sqldb: migrate: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("sqldb: migrate: %w", err)
	}
	return nil
}

// migrationsFor hides the migrations that are for another database.
type migrationsFor struct {
	fs.FS
	dialect string
}

// ReadDir implements fs.ReadDirFS, by which goose finds the migrations.
func (m migrationsFor) ReadDir(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(m.FS, dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		parts := strings.Split(e.Name(), ".")
		return len(parts) == 3 && parts[2] == "sql" && parts[1] != m.dialect
	}), err
}

// lockFile takes an exclusive lock on a file. goose has no lock for SQLite. The
// kernel drops the lock when the process dies, and the file stays: removing it
// would let a third process lock a new file while a second holds the old one.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator chooses the directory
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if err := pause(ctx, fileLockPoll); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for %s: %w", path, err), file.Close())
		}
	}
}
