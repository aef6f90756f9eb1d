package parts_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/parts"
)

// A process that follows its keys file, with a SIGHUP for each look.
func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, keyring.Generate(path))
	logged, log := io.Pipe()
	lines := make(chan string, 100)
	go func() {
		for scanner := bufio.NewScanner(logged); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	p := &app.Process{
		Config: &app.Config{KeysFile: path}, Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: app.NewRegistry(), Now: time.Now,
	}
	keys, follow, err := parts.Keys(p)
	require.NoError(t, err)
	old := keys.Primary()
	require.Contains(t, <-lines, `msg="Keys loaded" primary=`+old+" keys=1")

	hangups, stopHangups := app.Hangups()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- follow(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		stopHangups()
	})
	signal := func() {
		t.Helper()
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		<-hangups
	}
	hangUp := func(want string) {
		t.Helper()
		signal()
		require.Contains(t, <-lines, want)
	}
	info := func(want ...string) {
		t.Helper()
		const head = "# HELP twofold_keys_info 1 for each key that the process has, by its name and whether it makes new values.\n# TYPE twofold_keys_info gauge\n"
		require.NoError(t, testutil.GatherAndCompare(p.Metrics, strings.NewReader(head+strings.Join(want, "\n")+"\n"), "twofold_keys_info"))
	}
	info(`twofold_keys_info{key="` + old + `",primary="true"} 1`)

	_, err = keyring.Add(path, "next")
	require.NoError(t, err)
	require.NoError(t, keyring.Promote(path, "next"))
	hangUp(`msg="Keys reloaded" primary=next keys=2 added=[next] removed=[]`)
	require.Equal(t, "next", keys.Primary())
	info(`twofold_keys_info{key="`+old+`",primary="false"} 1`, `twofold_keys_info{key="next",primary="true"} 1`)

	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	hangUp(`level=ERROR msg="Keys file not usable, the keys stay what they were" primary=next keys=2`)
	require.Equal(t, []string{"next", old}, keys.Names())
	failures := func() float64 {
		families, err := p.Metrics.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "twofold_keys_reload_failures_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
	require.InDelta(t, 1, failures(), 0)

	// The same mistake is counted again, and said once.
	signal()
	require.Eventually(t, func() bool { return failures() == 2 }, 10*time.Second, time.Millisecond)
	require.Empty(t, lines)

	require.NoError(t, os.WriteFile(path, content, 0o600)) //nolint:gosec // in the folder of the test
	require.NoError(t, keyring.Remove(path, old))
	hangUp(`msg="Keys reloaded" primary=next keys=1 added=[] removed=[` + old + `]`)
}
