package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// gateScript becomes the server once a line arrives, so nothing of the server
// exists before its watchdog does. When the test process dies first, read sees
// the end of the pipe and the gate goes away without having started anything.
const gateScript = `read -r go && exec "$@" </dev/null`

// watchdogScript outlives the test process by a moment. Its standard input is a
// pipe that only the test process holds open: a line means the server was ended
// in order, the end of the pipe means that the test process is gone. The
// server is asked first, because PostgreSQL leaves a shared memory segment
// behind when it is killed.
//
// Pdeathsig would be shorter but follows the thread that forked, and Go ends a
// thread when a goroutine returns while locked to it.
const watchdogScript = `
pid=$1 sig=$2 dir=$3
if read -r ended; then exit 0; fi
kill -s "$sig" "$pid" 2>/dev/null
n=0
while kill -0 "$pid" 2>/dev/null && [ $n -lt 30 ]; do sleep 0.1; n=$((n+1)); done
kill -s KILL "$pid" 2>/dev/null
rm -rf -- "$dir"`

// program is a server to run: its command line and how to treat it.
type program struct {
	args []string
	// dir belongs to the program; it is removed when the test process dies.
	dir string
	// user is who the program runs as, nil for the test's own user.
	user *syscall.Credential
	// quit asks the program to end at once but in order.
	quit syscall.Signal
}

// child is a running program together with the watchdog that ends it should the
// test process die.
type child struct {
	cmd      *exec.Cmd
	quit     syscall.Signal
	watchdog *exec.Cmd
	leash    io.WriteCloser
	exited   chan struct{} // closed once the program is gone
}

const logName = "server.log"

// startChild runs p with its output in a log file inside p.dir.
func startChild(p program) (*child, error) {
	log, err := os.OpenFile(filepath.Join(p.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own copy

	gate := exec.Command("/bin/sh", append([]string{"-c", gateScript, "gate"}, p.args...)...)
	gate.Dir = p.dir
	gate.Stdout, gate.Stderr = log, log
	// A group of its own: an interrupt at the terminal reaches go test, and the
	// watchdog does the rest.
	gate.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.user}
	open, err := gate.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := gate.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.args[0], err)
	}
	c := &child{cmd: gate, quit: p.quit, exited: make(chan struct{})}
	go func() {
		_ = gate.Wait() // how it ended is in the log
		close(c.exited)
	}()

	if err := c.watch(p.dir); err != nil {
		_ = open.Close()
		<-c.exited
		return nil, err
	}
	if _, err := io.WriteString(open, "go\n"); err != nil {
		c.end(syscall.SIGKILL)
		return nil, fmt.Errorf("start %s: %w", p.args[0], err)
	}
	return c, open.Close()
}

// watch starts the watchdog.
func (c *child) watch(dir string) error {
	w := exec.Command("/bin/sh", "-c", watchdogScript, "watchdog",
		strconv.Itoa(c.cmd.Process.Pid), signalName(c.quit), dir)
	w.Dir = "/" // dir will be removed
	w.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	leash, err := w.StdinPipe()
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return fmt.Errorf("start watchdog: %w", err)
	}
	c.watchdog, c.leash = w, leash
	return nil
}

// end sends sig, waits until the program is gone (with SIGKILL after a while)
// and dismisses the watchdog. It may be called again.
func (c *child) end(sig syscall.Signal) {
	select {
	case <-c.exited:
	default:
		_ = c.cmd.Process.Signal(sig)
		select {
		case <-c.exited:
		case <-time.After(10 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.exited
		}
	}
	if c.watchdog == nil {
		return
	}
	_, _ = io.WriteString(c.leash, "ended\n")
	_ = c.leash.Close()
	_ = c.watchdog.Wait()
	c.watchdog = nil
}

// waitReady calls probe until it succeeds. It gives up early when the program
// has ended, for a port that somebody else took in the meantime shows that way.
func (c *child) waitReady(limit time.Duration, probe func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return errors.New("ended while starting")
		case <-deadline.C:
			return fmt.Errorf("not ready within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

// logTail is the end of the log of the program that lives in dir.
func logTail(dir string) string {
	const most = 4 << 10
	b, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(bytes.TrimSpace(b))
}

// signalName is how kill(1) calls the signals used here.
func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGQUIT:
		return "QUIT"
	case syscall.SIGTERM:
		return "TERM"
	default:
		return "KILL"
	}
}
