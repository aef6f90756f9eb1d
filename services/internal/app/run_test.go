package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const (
	patient = 20 * time.Second
	often   = 5 * time.Millisecond
)

var errTask = errors.New("disk on fire")

// logs is a log that may be read while it is written.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newProcess(t *testing.T, environ ...string) (*app.Process, *logs) {
	t.Helper()
	config, err := app.LoadConfig(environ)
	require.NoError(t, err)
	log := &logs{}
	return &app.Process{Config: config, Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: app.NewRegistry(), Now: time.Now}, log
}

func ready(context.Context) error { return nil }

// inner is a task that says when it is told to end, and ends when it is let go.
type inner struct {
	name string
	told chan<- string
	goOn chan struct{}
}

func (i inner) run(ctx context.Context) error {
	<-ctx.Done()
	i.told <- i.name
	<-i.goOn
	return nil
}

// restDoor serves a page whose answer waits for goOn, at /slow, and one that does
// not.
func restDoor(t *testing.T, arrived chan<- struct{}, goOn <-chan struct{}) (door app.Door, url string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: patient, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-goOn
		}
	})}
	return app.Door{Unready: func() {}, Serve: func(ctx context.Context) error {
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		<-ctx.Done()
		return server.Shutdown(context.WithoutCancel(ctx))
	}}, "http://" + listener.Addr().String()
}

// rpcDoor serves gRPC, and returns a client of its health.
func rpcDoor(t *testing.T, p *app.Process) (app.Door, healthpb.HealthClient) {
	t.Helper()
	server, err := grpcx.NewServer(grpcx.ServerConfig{Name: "test", Plaintext: true, Log: p.Log, Metrics: p.Metrics, Now: p.Now})
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return app.Door{
		Unready: server.Unready,
		Serve:   func(ctx context.Context) error { return server.Serve(ctx, listener) },
	}, healthpb.NewHealthClient(conn)
}

// get returns the status of a page, or 0 when nobody answers.
func get(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// From the outside to the inside, and nothing inner is told to end before
// everything outer has: with real listeners, a call under way and probes.
func TestRun_stopsFromTheOutsideToTheInside(t *testing.T) {
	metrics := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	p, log := newProcess(t, "TWOFOLD_METRICS_ADDR="+metrics, "TWOFOLD_SHUTDOWN_DELAY=1s")
	arrived, answer := make(chan struct{}), make(chan struct{})
	rest, url := restDoor(t, arrived, answer)
	rpc, health := rpcDoor(t, p)
	told := make(chan string, 9)
	work, outbox := inner{"work", told, make(chan struct{})}, inner{"outbox", told, make(chan struct{})}
	healthStatus := func() healthpb.HealthCheckResponse_ServingStatus {
		answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			return healthpb.HealthCheckResponse_UNKNOWN
		}
		return answer.GetStatus()
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- p.Run(ctx, app.Parts{
			Front: []app.Door{rest}, Doors: []app.Door{rpc}, Work: []app.Task{work.run}, Outboxes: []app.Task{outbox.run}, Ready: ready,
		})
	}()
	require.Eventually(t, func() bool { return get(t, "http://"+metrics+"/readyz") == http.StatusOK }, patient, often)
	require.Eventually(t, func() bool { return healthStatus() == healthpb.HealthCheckResponse_SERVING }, patient, often)
	slow := make(chan int, 1)
	go func() { slow <- get(t, url+"/slow") }()
	<-arrived

	stopped := time.Now()
	stop()
	require.Eventually(t, func() bool { return get(t, "http://"+metrics+"/readyz") == http.StatusServiceUnavailable }, patient, often)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, healthStatus())
	require.Equal(t, http.StatusOK, get(t, url), "callers who have not noticed yet are served")
	require.Equal(t, http.StatusOK, get(t, "http://"+metrics+"/healthz"), "it stops, and is not dead")

	require.Eventually(t, func() bool { return get(t, url) == 0 }, patient, often, "the listener is closed")
	require.GreaterOrEqual(t, time.Since(stopped), time.Second, "not before the delay is over")
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, healthStatus(), "gRPC serves the call that is under way")
	require.Empty(t, told)
	close(answer)
	require.Equal(t, http.StatusOK, <-slow)

	require.Equal(t, "work", <-told)
	require.Equal(t, healthpb.HealthCheckResponse_UNKNOWN, healthStatus(), "gRPC stopped before the work")
	require.Empty(t, told)
	close(work.goOn)
	require.Equal(t, "outbox", <-told)
	require.Equal(t, http.StatusServiceUnavailable, get(t, "http://"+metrics+"/readyz"), "it can be watched to the end")
	close(outbox.goOn)
	require.NoError(t, <-ended)
	require.Zero(t, get(t, "http://"+metrics+"/healthz"))

	var order []string
	for line := range strings.SplitSeq(log.String(), "\n") {
		if _, stage, found := strings.Cut(line, `msg="Stage stopped" stage=`); found {
			require.Contains(t, line, "level=INFO")
			require.Contains(t, line, "took=")
			order = append(order, strings.Trim(strings.Split(stage, " took=")[0], `"`))
		}
	}
	require.Equal(t, []string{"readiness", "front listeners", "listeners", "work", "outboxes", "metrics"}, order)
}

func TestRun_failures(t *testing.T) {
	untilEnd := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	run := func(t *testing.T, ctx context.Context, tasks ...app.Task) error {
		t.Helper()
		// Were a failure to wait for the delay, the test would too.
		p, _ := newProcess(t, "TWOFOLD_SHUTDOWN_DELAY=10m")
		return p.Run(ctx, app.Parts{Work: tasks, Outboxes: []app.Task{untilEnd}, Ready: ready})
	}

	t.Run("the first failure ends the others, at once", func(t *testing.T) {
		require.ErrorIs(t, run(t, t.Context(), untilEnd, func(context.Context) error { return errTask }, untilEnd), errTask)
	})
	t.Run("a panic is a failure", func(t *testing.T) {
		err := run(t, t.Context(), untilEnd, func(context.Context) error { panic("kaboom") })
		require.ErrorContains(t, err, "kaboom")
		require.ErrorContains(t, err, "run_test.go")
	})
	t.Run("a task that is done does not end the others", func(t *testing.T) {
		done := make(chan struct{})
		err := run(t, t.Context(), func(context.Context) error { close(done); return nil }, func(ctx context.Context) error {
			<-done
			require.NoError(t, ctx.Err())
			return errTask
		})
		require.ErrorIs(t, err, errTask)
	})
	t.Run("a failure while stopping is told, and the others stop all the same", func(t *testing.T) {
		p, _ := newProcess(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		told := make(chan string, 1)
		last := inner{"outbox", told, make(chan struct{})}
		close(last.goOn)
		err := p.Run(ctx, app.Parts{
			Work:  []app.Task{func(ctx context.Context) error { <-ctx.Done(); return errTask }},
			Ready: ready, Outboxes: []app.Task{last.run},
		})
		require.ErrorIs(t, err, errTask)
		require.Equal(t, "outbox", <-told)
	})
	t.Run("what does not stop is named and left behind", func(t *testing.T) {
		p, _ := newProcess(t)
		p.Config.ShutdownTimeout = 20 * time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		defer close(release)
		err := p.Run(ctx, app.Parts{Work: []app.Task{untilEnd, func(context.Context) error { <-release; return nil }}, Ready: ready})
		require.ErrorContains(t, err, "work did not stop")
	})
	t.Run("the end of the context is no failure", func(t *testing.T) {
		p, _ := newProcess(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, p.Run(ctx, app.Parts{Work: []app.Task{untilEnd}, Ready: ready}))
	})
}
