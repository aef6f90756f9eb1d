package notifier

import (
	"context"
	"sync"
	"time"
)

// bell wakes those who wait for work.
type bell struct {
	mu   sync.Mutex
	rung chan struct{}
}

func newBell() *bell { return &bell{rung: make(chan struct{})} }

// listen returns a channel that is closed at the next ring. Listen first, then
// look for work: a ring in between is not missed.
func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rung)
	b.rung = make(chan struct{})
}

// gate is shut while the mail server does not work at all, so that its absence
// neither uses up the attempts of notices nor makes a storm of connections: one
// worker knocks, after growing pauses, and the others wait.
type gate struct {
	now      func() time.Time
	min, max time.Duration

	mu       sync.Mutex
	failures int
	knocking bool // somebody was let through to try
	until    time.Time
	opened   chan struct{} // closed when it opens
}

func newGate(now func() time.Time, shortest, longest time.Duration) *gate {
	return &gate{now: now, min: shortest, max: longest, opened: make(chan struct{})}
}

// enter waits until the mail server works or it is the caller's turn to try. An
// error means that ctx ended.
func (g *gate) enter(ctx context.Context) error {
	for {
		pause, opened := g.turn()
		if pause <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-opened:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// turn says how long to wait before asking again; zero is now.
func (g *gate) turn() (time.Duration, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures == 0 {
		return 0, nil
	}
	now := g.now()
	if left := g.until.Sub(now); left > 0 {
		return left, g.opened
	}
	// The caller knocks; the others wait as if it had failed.
	g.knocking, g.until = true, now.Add(g.pause())
	return 0, nil
}

func (g *gate) pause() time.Duration {
	return jitter(min(g.min<<min(g.failures-1, 20), g.max))
}

// isOpen says whether the mail server worked when it was last tried.
func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures == 0
}

// failed shuts the gate, and says for how long. Workers that were inside when the
// mail server went away all fail; together they are one failure.
func (g *gate) failed() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if g.failures == 0 || g.knocking {
		g.failures++
		g.knocking, g.until = false, now.Add(g.pause())
	}
	return max(g.until.Sub(now), 0)
}

// worked opens it.
func (g *gate) worked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures > 0 {
		g.failures, g.knocking = 0, false
		close(g.opened)
		g.opened = make(chan struct{})
	}
}
