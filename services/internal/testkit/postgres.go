package testkit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
)

// startLimit is how long a server may take until it answers. It is generous
// because the tests of several packages run at once on small machines.
const startLimit = 60 * time.Second

var errNotInstalled = errors.New("not installed")

// sharedCluster is the PostgreSQL that the tests of one process share. Its
// watchdog ends it when the process is over.
var sharedCluster = &lazyPostgres{}

type lazyPostgres struct {
	once   sync.Once
	server *PostgresServer
	err    error
}

func (l *lazyPostgres) get(ctx context.Context) (*PostgresServer, error) {
	l.once.Do(func() {
		// The first test to ask must not take the server away from the others.
		l.server, l.err = newPostgres(context.WithoutCancel(ctx), false)
	})
	return l.server, l.err
}

// Postgres returns the postgres:// URL of a new, empty database. It is dropped
// in the test's cleanup, whoever is still connected to it.
//
// The server behind it does not sync to disk and is shared with the other tests
// of the process: to stop or kill one, use [PrivatePostgres].
func Postgres(t testing.TB) string {
	t.Helper()
	server, err := sharedCluster.get(t.Context())
	if errors.Is(err, errNotInstalled) {
		missing(t, "postgresql")
	}
	require.NoError(t, err, "start PostgreSQL")

	name := "test_" + strings.ToLower(rand.Text())
	require.NoError(t, server.exec(t.Context(), "CREATE DATABASE "+name))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, server.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"))
	})
	return server.urlOf(name)
}

// SQLite returns the sqlite: URL of an empty directory for database files.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite:" + t.TempDir()
}

// PostgresServer is a PostgreSQL of one's own, on one port and one directory
// for as long as the test lasts.
type PostgresServer struct {
	bin      string
	dir      string
	user     *syscall.Credential
	password string
	durable  bool
	port     int
	child    *child
}

// PrivatePostgres starts a PostgreSQL for this test alone, which syncs to disk
// as one in production does, so that the test may stop and kill it.
func PrivatePostgres(t testing.TB) *PostgresServer {
	t.Helper()
	server, err := newPostgres(t.Context(), true)
	if errors.Is(err, errNotInstalled) {
		missing(t, "postgresql")
	}
	require.NoError(t, err, "start PostgreSQL")
	t.Cleanup(func() {
		server.child.end(syscall.SIGQUIT)
		if t.Failed() {
			t.Logf("PostgreSQL's log:\n%s", logTail(server.dir))
		}
		require.NoError(t, os.RemoveAll(server.dir))
	})
	return server
}

// URL is the postgres:// URL of the server's one database.
func (s *PostgresServer) URL() string { return s.urlOf("postgres") }

// Stop ends the server in order, cutting off whoever is connected.
func (s *PostgresServer) Stop(testing.TB) { s.child.end(syscall.SIGINT) }

// Kill ends the server with SIGKILL, as a crash would.
func (s *PostgresServer) Kill(testing.TB) { s.child.end(syscall.SIGKILL) }

// Start starts the server again after Stop or Kill: same port, same data.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	require.NoErrorf(t, s.start(t.Context(), s.port), "start PostgreSQL again:\n%s", logTail(s.dir))
}

func newPostgres(ctx context.Context, durable bool) (*PostgresServer, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	owner, err := postgresUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "twofold-postgres-")
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{bin: bin, dir: dir, user: owner, password: rand.Text(), durable: durable}
	err = s.initdb(ctx)
	if err == nil {
		err = onFreePort(func(port int) error { return s.start(ctx, port) })
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, logTail(dir))
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

// initdb creates the cluster. Everybody on the machine reaches loopback, and
// who is a superuser there can run programs as the server's user: hence a
// password.
func (s *PostgresServer) initdb(ctx context.Context) error {
	pwfile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(pwfile, []byte(s.password), 0o600); err != nil {
		return err
	}
	if s.user != nil {
		for _, path := range []string{s.dir, pwfile} {
			if err := os.Chown(path, int(s.user.Uid), int(s.user.Gid)); err != nil {
				return err
			}
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "--pgdata="+s.data(), "--username=postgres",
		"--pwfile="+pwfile, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *PostgresServer) start(ctx context.Context, port int) error {
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(port),
		"unix_socket_directories=",
		"max_connections=200",
		"shared_buffers=32MB",
		"dynamic_shared_memory_type=posix",
	}
	if !s.durable {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	args := []string{filepath.Join(s.bin, "postgres"), "-D", s.data()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	child, err := startChild(program{args: args, dir: s.dir, user: s.user, quit: syscall.SIGQUIT})
	if err != nil {
		return err
	}
	s.port, s.child = port, child
	// Only our own server knows the password, so the probe can not be answered
	// by one that got the port first.
	err = child.waitReady(startLimit, func() error { return s.exec(ctx, "SELECT 1") })
	if err != nil {
		child.end(syscall.SIGQUIT)
	}
	return err
}

func (s *PostgresServer) urlOf(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     loopback(s.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// exec runs one statement on a connection of its own: databases are created and
// dropped too seldom to keep one open.
func (s *PostgresServer) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", s.URL())
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// postgresBin is the folder of PostgreSQL's programs. Debian keeps them out of
// PATH, one folder a version.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNotInstalled
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// postgresUser is whom to run PostgreSQL as: it refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is "as oneself"
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run PostgreSQL as")
}
