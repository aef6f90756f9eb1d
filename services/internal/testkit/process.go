package testkit

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is a program of the suite that runs as a child of the test, with a clean
// environment. A test may kill it and start it again.
type Process struct {
	name  string
	args  []string
	dir   string
	child *child
}

// StartProcess starts a program with these environment variables (`NAME=value`)
// and no others. It ends with the test; its log is shown when the test failed.
func StartProcess(t testing.TB, binary string, environ ...string) *Process {
	t.Helper()
	dir, err := os.MkdirTemp("", "twofold-process-") //nolint:usetesting // t.TempDir would leave its parent behind when the test process dies
	require.NoError(t, err)
	// env replaces itself by the program, so the child's id is the program's.
	args := append([]string{"env", "-i", "HOME=" + dir}, environ...)
	p := &Process{name: filepath.Base(binary), args: append(args, binary), dir: dir}
	t.Cleanup(func() {
		if p.child != nil {
			p.child.end(syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s", p.name, logTail(dir))
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	p.Start(t)
	return p
}

// Start starts the program again after Kill or Stop, with the same environment.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	child, err := startChild(program{args: p.args, dir: p.dir, quit: syscall.SIGTERM})
	require.NoErrorf(t, err, "start %s", p.name)
	p.child = child
}

// Kill ends the program with SIGKILL, as a crash would, and waits until it is gone.
func (p *Process) Kill(testing.TB) {
	p.child.end(syscall.SIGKILL)
	p.child = nil
}

// Terminate asks the program to end, as a platform does that moves it elsewhere.
func (p *Process) Terminate(t testing.TB) {
	t.Helper()
	require.NoErrorf(t, p.child.cmd.Process.Signal(syscall.SIGTERM), "terminate %s", p.name)
}

// Stop asks the program to end and returns its exit code once it is gone, or -1 if
// a signal ended it, as one does when the program takes longer than it may.
func (p *Process) Stop(t testing.TB, within time.Duration) (exitCode int) {
	t.Helper()
	p.Terminate(t)
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.child.exited:
	case <-late.C:
	}
	p.child.end(syscall.SIGKILL)
	exitCode = p.child.cmd.ProcessState.ExitCode()
	p.child = nil
	return exitCode
}

// Exited is closed once the program is gone.
func (p *Process) Exited() <-chan struct{} { return p.child.exited }

// Log is the end of what the program has logged, since its first start.
func (p *Process) Log() string { return logTail(p.dir) }

// FreePort is a port on loopback that nobody listens on, for a program that is to
// have the same one after a restart.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	require.NoError(t, err)
	return port
}
