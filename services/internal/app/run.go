package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// A Task runs until its context ends, or until it fails.
type Task func(ctx context.Context) error

// A Door is where a process is called.
type Door struct {
	// Unready makes the door say that callers should go elsewhere. Those who come
	// all the same are served.
	Unready func()
	// Serve serves until its context ends, and then lets calls under way finish.
	Serve Task
}

// Parts is what a process runs, by when it stops: from the outside to the inside,
// so that whatever still runs has what it needs.
type Parts struct {
	// Front are the doors whose calls go on to Doors of the same process, as those
	// of REST do.
	Front []Door
	// Doors are the others.
	Doors []Door
	// Work is what the process does by itself. Told to end, it finishes or gives
	// back what it holds.
	Work []Task
	// Outboxes publish what the others committed. Told to end, they publish what
	// is left.
	Outboxes []Task
	// Ready says why the process cannot do its work now, or nil.
	Ready func(context.Context) error
}

// errAsked is why a process stops that did not fail.
var errAsked = errors.New("app: asked to stop")

// Run runs the parts until ctx ends or one of them fails, and then stops them
// stage by stage. The first failure is Run's error, and so is a stage that does not
// stop in time; the end of ctx is none. What is open the caller closes after Run.
func (p *Process) Run(ctx context.Context, parts Parts) error {
	readiness := newReadiness(parts, p.Config.ShutdownDelay)
	return runStages(ctx, p.Log, p.Config.ShutdownDelay+p.Config.ShutdownTimeout, []stage{
		{"readiness", []Task{readiness.run}},
		{"front listeners", serve(parts.Front)},
		{"listeners", serve(parts.Doors)},
		{"work", parts.Work},
		{"outboxes", parts.Outboxes},
		{"metrics", []Task{serveMetrics(p.Config.MetricsAddr, p.Metrics, readiness.check, p.Log)}},
	})
}

func serve(doors []Door) (tasks []Task) {
	for _, door := range doors {
		tasks = append(tasks, door.Serve)
	}
	return tasks
}

// stage is tasks that are told to end together, once the stage before has ended.
type stage struct {
	name  string
	tasks []Task
}

// end is how a task of a stage ended.
type end struct {
	stage int
	err   error
}

// runner is stages that run.
type runner struct {
	log    *slog.Logger
	stages []stage

	contexts []context.Context //nolint:containedctx // one for each stage, as their ends differ
	cancels  []context.CancelCauseFunc
	ends     chan end
	running  []int // tasks by stage
	failures []error
}

// runStages runs all stages at once, and stops them in their order. within bounds
// the whole stop; what does not end by then is left behind.
func runStages(ctx context.Context, log *slog.Logger, within time.Duration, stages []stage) error {
	r := &runner{log: log, stages: stages, running: make([]int, len(stages))}
	total := 0
	for _, s := range stages {
		total += len(s.tasks)
	}
	r.ends = make(chan end, total) // so that tasks left behind can still end
	for i := range stages {
		r.start(context.WithoutCancel(ctx), i)
	}
	defer r.cancelAll()
	r.stop(context.WithoutCancel(ctx), r.untilStop(ctx), within)
	return errors.Join(r.failures...)
}

func (r *runner) start(ctx context.Context, i int) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.contexts, r.cancels = append(r.contexts, ctx), append(r.cancels, cancel)
	r.running[i] = len(r.stages[i].tasks)
	for _, task := range r.stages[i].tasks {
		go func() { r.ends <- end{i, runTask(ctx, task)} }()
	}
}

func (r *runner) cancelAll() {
	for _, cancel := range r.cancels {
		cancel(errAsked)
	}
}

// untilStop waits for a reason to stop, and returns it.
func (r *runner) untilStop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return errAsked
		case e := <-r.ends:
			if r.note(e); len(r.failures) > 0 {
				return r.failures[0]
			}
		}
	}
}

// note takes note of a task's end. What a task says when it is told to stop is no
// failure.
func (r *runner) note(e end) {
	r.running[e.stage]--
	if e.err != nil && (r.contexts[e.stage].Err() == nil || !errors.Is(e.err, context.Canceled)) {
		r.failures = append(r.failures, e.err)
	}
}

func (r *runner) stop(ctx context.Context, cause error, within time.Duration) {
	r.log.InfoContext(ctx, "Stopping", slog.Duration("within", within))
	bound := time.NewTimer(within)
	defer bound.Stop()
	for i, s := range r.stages {
		began := time.Now()
		r.cancels[i](cause)
		for r.running[i] > 0 {
			select {
			case e := <-r.ends:
				r.note(e)
			case <-bound.C:
				r.failures = append(r.failures, fmt.Errorf("app: %s did not stop, %s after the stop began", s.name, within))
				return
			}
		}
		if len(s.tasks) > 0 {
			r.log.InfoContext(ctx, "Stage stopped", slog.String("stage", s.name), slog.Duration("took", time.Since(began)))
		}
	}
}

func runTask(ctx context.Context, task Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("app: a task panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return task(ctx)
}
