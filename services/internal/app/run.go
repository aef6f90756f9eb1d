package app

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// stopTimeout bounds how long tasks may take to end. It is longer than what a
// gRPC server gives its calls, and shorter than Kubernetes' 30 s.
const stopTimeout = 20 * time.Second

// A Task runs until its context ends, or until it fails.
type Task func(ctx context.Context) error

// Run runs tasks together until all have ended. The first that fails ends the
// others, and its error is Run's; a panic is a failure. When ctx ends, that is
// no error. Tasks that do not end in time are left behind and named by number.
func Run(ctx context.Context, tasks ...Task) error {
	return runWithin(ctx, stopTimeout, tasks)
}

func runWithin(ctx context.Context, timeout time.Duration, tasks []Task) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		task int
		err  error
	}
	ends := make(chan end, len(tasks)) // so that tasks left behind can still end
	running := map[int]bool{}
	for i, task := range tasks {
		running[i] = true
		go func() { ends <- end{i, runTask(ctx, task)} }()
	}
	var failures []error
	var expired <-chan time.Time
	stopping := ctx.Done()
	for len(running) > 0 {
		select {
		case e := <-ends:
			delete(running, e.task)
			// What a task says when it is told to stop is no failure.
			if e.err != nil && (ctx.Err() == nil || !errors.Is(e.err, context.Canceled)) {
				failures = append(failures, e.err)
				cancel()
			}
		case <-stopping:
			stopping = nil
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			expired = timer.C
		case <-expired:
			for i := range running {
				failures = append(failures, fmt.Errorf("app: task %d did not stop within %s", i, timeout))
			}
			return errors.Join(failures...)
		}
	}
	return errors.Join(failures...)
}

func runTask(ctx context.Context, task Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("app: a task panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return task(ctx)
}
