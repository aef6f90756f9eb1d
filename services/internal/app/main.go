package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/tracing"
)

// Process is what a main starts from.
type Process struct {
	Config  *Config
	Log     *slog.Logger
	Metrics *prometheus.Registry
	Now     func() time.Time
	// Tracing records calls; nil when nobody collects traces.
	Tracing *tracing.Tracer
}

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitBadSettings = 2
)

// Main is the main function of a process: it reads the configuration, of which
// the required variables must be set, calls run, and exits. The context of run
// ends at SIGINT or SIGTERM; a second signal ends the process at once.
func Main(name string, required []string, run func(ctx context.Context, p *Process) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Environ(), os.Stderr, name, required, run))
}

func execute(ctx context.Context, environ []string, stderr io.Writer, name string, required []string, run func(context.Context, *Process) error) int {
	config, err := LoadConfig(environ, required...)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitBadSettings
	}
	log, err := NewLogger(stderr, config)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitBadSettings
	}
	log = log.With("process", name)
	tracer, err := NewTracer(ctx, name, config, log)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitBadSettings
	}
	defer tracer.Stop(ctx)
	p := &Process{Config: config, Log: log, Metrics: NewRegistry(), Now: time.Now, Tracing: tracer}
	if err := runTask(ctx, func(ctx context.Context) error { return run(ctx, p) }); err != nil {
		log.ErrorContext(ctx, "Stopped by a failure", "error", err)
		return exitFailure
	}
	log.InfoContext(ctx, "Stopped")
	return exitOK
}
