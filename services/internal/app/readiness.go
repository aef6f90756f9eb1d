package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

var errStopping = errors.New("app: the process is stopping")

// readiness says whether a process wants calls: what it is asked by probes and by
// clients that watch its health.
type readiness struct {
	ready    func(context.Context) error
	unready  []func()
	delay    time.Duration
	stopping atomic.Bool
}

func newReadiness(parts Parts, delay time.Duration) *readiness {
	r := &readiness{ready: parts.Ready, delay: delay}
	for _, doors := range [][]Door{parts.Front, parts.Doors} {
		for _, door := range doors {
			r.unready = append(r.unready, door.Unready)
		}
	}
	return r
}

// run turns to not ready when its context ends, and leaves the callers time to
// notice while everything still runs. A process that failed does not wait.
func (r *readiness) run(ctx context.Context) error {
	<-ctx.Done()
	r.stopping.Store(true)
	for _, unready := range r.unready {
		unready()
	}
	if errors.Is(context.Cause(ctx), errAsked) {
		<-time.After(r.delay)
	}
	return nil
}

func (r *readiness) check(ctx context.Context) error {
	if r.stopping.Load() {
		return errStopping
	}
	return r.ready(ctx)
}
