package testkit_test

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// orphanVariable tells a test process to start servers and then to end in the
// way it names.
const orphanVariable = "TESTKIT_TEST_ORPHANS"

// Servers that outlive the tests fill a developer's machine and hold ports.
// This starts a second test process with a Redis and a PostgreSQL, lets it end
// without any cleanup, and requires that both are gone.
func TestServersDieWithTheTestProcess(t *testing.T) {
	if how := os.Getenv(orphanVariable); how != "" {
		startServersAndEnd(t, how)
		return
	}
	for _, how := range []string{"sigkill", "panic", "exit"} {
		t.Run(how, func(t *testing.T) {
			tmp := tempDirForEverybody(t)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$") //nolint:gosec // this test itself
			cmd.Env = append(os.Environ(), orphanVariable+"="+how, "TMPDIR="+tmp)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())

			var addrs []string
			for lines := bufio.NewScanner(out); len(addrs) < 2 && lines.Scan(); {
				if addr, ok := strings.CutPrefix(lines.Text(), "server "); ok {
					addrs = append(addrs, addr)
				}
			}
			require.Len(t, addrs, 2)
			for _, addr := range addrs {
				require.True(t, listening(addr), "nothing to be orphaned at %s", addr)
			}
			if how == "sigkill" {
				require.NoError(t, cmd.Process.Kill())
			} else {
				require.NoError(t, os.WriteFile(tmp+"/seen", nil, 0o600))
			}
			require.Error(t, cmd.Wait(), "the process was to end badly")

			// Nobody reports the death of somebody else's child.
			for _, addr := range addrs {
				require.Eventually(t, func() bool { return !listening(addr) }, 15*time.Second, 20*time.Millisecond, "orphan at %s", addr)
			}
			require.Eventually(t, func() bool {
				left, err := os.ReadDir(tmp)
				return err == nil && !containsServerDir(left)
			}, 15*time.Second, 20*time.Millisecond, "files left behind")
		})
	}
}

func startServersAndEnd(t *testing.T, how string) {
	t.Helper()
	postgres, err := url.Parse(testkit.Postgres(t))
	require.NoError(t, err)
	for _, addr := range []string{testkit.Redis(t).Addr(), postgres.Host} {
		_, err := os.Stdout.WriteString("server " + addr + "\n")
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		_, err := os.Stat(os.TempDir() + "/seen")
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	switch how {
	case "panic":
		go panic("as a bug would")
		select {}
	default:
		os.Exit(3)
	}
}

// tempDirForEverybody is a directory that PostgreSQL can enter when it runs as
// another user than the test.
func tempDirForEverybody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "twofold-orphans-") //nolint:usetesting // t.TempDir is closed to others
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // see above
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func containsServerDir(entries []os.DirEntry) bool {
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "twofold-") {
			return true
		}
	}
	return false
}

func listening(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
