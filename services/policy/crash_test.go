package policy

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// crashURL names the database to the process that is going to be killed.
const crashURL = "TWOFOLD_TEST_CRASH_DATABASE_URL"

// toggle is the n-th of a series of changes, each with a request id of its own.
func toggle(n int64) update {
	u := to("acme", enforcement.Settings{Enforced: n%2 == 0, GracePeriod: first.GracePeriod})
	u.request = idempotency.Key{Scope: "acme", RequestID: strconv.FormatInt(n, 10), Method: "m"}
	u.fingerprint = idempotency.Fingerprint{Sum: []byte(u.request.RequestID)}
	return u
}

// TestCrashChild is the process that TestStore_killedAnywhere kills.
func TestCrashChild(t *testing.T) {
	url := os.Getenv(crashURL)
	if url == "" {
		t.Skip("runs in a process of its own, started by TestStore_killedAnywhere")
	}
	s := openStore(t, url)
	p, err := s.get(t.Context(), "acme")
	require.NoError(t, err)
	for n := p.Revision + 1; ; n++ {
		result, err := s.update(t.Context(), toggle(n))
		require.NoError(t, err)
		fmt.Println(result.answer.GetMfaPolicy().GetRevision())
	}
}

// The process dies by SIGKILL at any point of a change. What it answered is
// there, what is there is whole, and a client that repeats the change it got no
// answer for has made it once.
func TestStore_killedAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	const kills = 12
	for name, url := range map[string]func(testing.TB) string{"sqlite": testkit.SQLite, "postgres": testkit.Postgres} {
		t.Run(name, func(t *testing.T) {
			where := url(t)
			s := openStore(t, where)
			_, err := s.create(t.Context(), "acme", first, byAuth)
			require.NoError(t, err)
			for range kills {
				answered := runAndKill(t, where)
				p, err := s.get(t.Context(), "acme")
				require.NoError(t, err)
				require.Contains(t, []int64{answered, answered + 1}, p.Revision)

				retried, err := s.update(t.Context(), toggle(answered+1))
				require.NoError(t, err)
				require.Equal(t, answered+1, retried.answer.GetMfaPolicy().GetRevision())
				// PostgreSQL may have finished a COMMIT after p was read.
				require.True(t, p.Revision == answered || retried.transition == "", "made once")

				requireHistory(t, s, "acme", answered+1)
				require.Len(t, versionsOf(t, s, "acme"), int(answered), "every change since the first revision has its event")
			}
		})
	}
}

// runAndKill runs the child until some time after its first answer, and returns
// the last revision it answered.
func runAndKill(t *testing.T, url string) (answered int64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$") //nolint:gosec // this test itself
	child.Env = append(os.Environ(), crashURL+"="+url)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		revision, err := strconv.ParseInt(lines.Text(), 10, 64)
		require.NoError(t, err, "the child says %q", lines.Text())
		if answered == 0 {
			time.AfterFunc(rand.N(30*time.Millisecond), func() { _ = child.Process.Kill() })
		}
		answered = revision
	}
	require.Error(t, child.Wait(), "it was killed")
	require.NotZero(t, answered)
	return answered
}
