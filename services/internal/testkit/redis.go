package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// RedisServer is a real Redis, on one port and one directory for as long as the
// test lasts. It writes to disk only when told to by [RedisServer.Save] (or as
// its extra arguments say), so a test decides what a restart brings back.
type RedisServer struct {
	port   int
	dir    string
	extra  []string
	child  *child
	client *redis.Client
}

// Redis starts a Redis for this test. The arguments go to redis-server as they
// are: Redis(t, "--appendonly", "yes", "--appendfsync", "always").
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(t, "redis-server")
	}
	dir, err := os.MkdirTemp("", "twofold-redis-") //nolint:usetesting // t.TempDir would leave its parent behind when the test process dies
	require.NoError(t, err)
	s := &RedisServer{dir: dir, extra: args}
	t.Cleanup(func() {
		if s.child != nil {
			s.Kill(t)
		}
		if t.Failed() {
			t.Logf("Redis's log:\n%s", logTail(dir))
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	err = onFreePort(func(port int) error { return s.start(t.Context(), port) })
	require.NoErrorf(t, err, "start Redis:\n%s", logTail(dir))
	return s
}

// Addr is the server's host:port, the same after a restart.
func (s *RedisServer) Addr() string { return loopback(s.port) }

// URL is the server's redis:// URL, the same after a restart.
func (s *RedisServer) URL() string { return "redis://" + s.Addr() + "/0" }

// Stop ends the server in order. What was not saved is gone.
func (s *RedisServer) Stop(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGTERM)
}

// Kill ends the server with SIGKILL, as a crash would.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGKILL)
}

// Start starts the server again after Stop or Kill: same port, and the data of
// the last Save.
func (s *RedisServer) Start(t testing.TB) {
	t.Helper()
	require.NoErrorf(t, s.start(t.Context(), s.port), "start Redis again:\n%s", logTail(s.dir))
}

// Restart is Stop and Start: the server comes back as old as its last Save.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Save writes the data to disk now.
func (s *RedisServer) Save(t testing.TB) {
	t.Helper()
	require.NoError(t, s.client.Save(t.Context()).Err())
}

// FlushAll removes all data.
func (s *RedisServer) FlushAll(t testing.TB) {
	t.Helper()
	require.NoError(t, s.client.FlushAll(t.Context()).Err())
}

// Pause stops the server from running without closing its connections, as an
// overloaded machine would; Resume lets it go on.
func (s *RedisServer) Pause(t testing.TB) {
	t.Helper()
	require.NoError(t, s.child.cmd.Process.Signal(syscall.SIGSTOP))
}

// Resume undoes Pause.
func (s *RedisServer) Resume(t testing.TB) {
	t.Helper()
	require.NoError(t, s.child.cmd.Process.Signal(syscall.SIGCONT))
}

func (s *RedisServer) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.child.end(sig)
	require.NoError(t, s.client.Close())
	s.child = nil
}

func (s *RedisServer) start(ctx context.Context, port int) error {
	args := append([]string{
		"redis-server",
		"--bind", "127.0.0.1",
		"--port", strconv.Itoa(port),
		"--dir", s.dir,
		"--save", "",
		"--appendonly", "no",
		"--enable-debug-command", "local",
	}, s.extra...)
	child, err := startChild(program{args: args, dir: s.dir, quit: syscall.SIGKILL})
	if err != nil {
		return err
	}
	// One connection without retries, so that a server that is down says so.
	client := redis.NewClient(&redis.Options{Addr: loopback(port), PoolSize: 1, MaxRetries: -1})
	err = child.waitReady(startLimit, func() error { return s.probe(ctx, client) })
	if err != nil {
		child.end(syscall.SIGKILL)
		_ = client.Close()
		return err
	}
	s.port, s.child, s.client = port, child, client
	return nil
}

// probe asks for the directory, for it could be somebody else's Redis that got
// the port first.
func (s *RedisServer) probe(ctx context.Context, client *redis.Client) error {
	config, err := client.ConfigGet(ctx, "dir").Result()
	if err != nil {
		return err
	}
	want, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return err
	}
	if config["dir"] != want {
		return fmt.Errorf("port taken by the Redis in %s", config["dir"])
	}
	return nil
}
