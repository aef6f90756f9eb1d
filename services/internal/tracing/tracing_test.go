package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/twofold-auth/twofold/services/internal/testkit/otlpsink"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	theirTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirParent = "00-" + theirTrace + "-00f067aa0ba902b7-01"
)

func headers(traceparent string) propagation.HeaderCarrier {
	return propagation.HeaderCarrier(http.Header{"Traceparent": {traceparent}})
}

func traceID(ctx context.Context) string {
	return trace.SpanContextFromContext(ctx).TraceID().String()
}

func TestContinue(t *testing.T) {
	trusted := tracing.Continue(t.Context(), headers(theirParent), true)
	require.Equal(t, theirTrace, traceID(trusted))

	for name, ctx := range map[string]context.Context{
		"a stranger's":  tracing.Continue(t.Context(), headers(theirParent), false),
		"none":          tracing.Continue(t.Context(), headers(""), true),
		"all zero":      tracing.Continue(t.Context(), headers("00-"+strings.Repeat("0", 32)+"-00f067aa0ba902b7-01"), true),
		"no trace":      tracing.Continue(t.Context(), headers("'; DROP TABLE spans; --"), true),
		"other version": tracing.Continue(t.Context(), headers("ff"+theirParent[2:]), true),
	} {
		own := trace.SpanContextFromContext(ctx)
		require.True(t, own.IsValid(), name)
		require.NotEqual(t, theirTrace, own.TraceID().String(), name)
		require.False(t, own.IsSampled(), "%s: nobody records it", name)
	}
	again := tracing.Continue(tracing.Continue(t.Context(), headers(""), true), headers(theirParent), true)
	require.NotEqual(t, theirTrace, traceID(again), "a call has one trace, from its beginning")
}

func TestLogAttrs(t *testing.T) {
	require.Empty(t, tracing.LogAttrs(t.Context()))
	var none *tracing.Tracer
	ctx, span := none.StartEvent(t.Context(), tracing.Event{ID: "event-1", Name: "MFAReset", Origin: headers(theirParent)})
	span.End()
	require.Equal(t, []slog.Attr{
		slog.String("trace_id", theirTrace), slog.String("span_id", "00f067aa0ba902b7"), slog.String("event_id", "event-1"),
	}, tracing.LogAttrs(ctx))
}

// What leaves the process: the spans of a call and of an event in one trace, with
// nothing that is not on the list.
func TestTracer_exports(t *testing.T) {
	sink := otlpsink.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: sink.URL() + "/", Service: "twofold-test", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	ctx, request := tracer.StartRequest(t.Context(), headers(theirParent), false, "POST")
	request.SetName("POST /v1/signIn")
	request.SetAttributes(attribute.String("http.route", "/v1/signIn"), attribute.String("url.full", "https://secret"), attribute.String("client.address", "192.0.2.1"))
	tracing.NoteRequest(ctx, "request-1")
	origin := propagation.MapCarrier{}
	tracing.Inject(ctx, origin)
	request.RecordError(errors.New("secret"))
	tracing.End(request, errors.New("secret"))
	_, event := tracer.StartEvent(t.Context(), tracing.Event{ID: "event-1", Name: "MFAReset", Type: "twofold.auth.v1.MFAReset", Consumer: "notifier", Origin: origin})
	tracing.End(event, nil)
	tracer.Stop(t.Context())

	spans := map[string]otlpsink.Span{}
	for _, span := range sink.Spans() {
		require.Equal(t, "twofold-test", span.Service)
		require.Empty(t, span.Texts)
		spans[span.Name] = span
	}
	require.Len(t, spans, 2)
	call, work := spans["POST /v1/signIn"], spans["process MFAReset"]
	require.NotEqual(t, theirTrace, call.TraceID, "a stranger's trace is not continued")
	require.Equal(t, []string{theirTrace}, call.Links, "but linked to")
	require.Equal(t, map[string]string{
		"http.request.method": "POST", "http.route": "/v1/signIn", "twofold.request_id": "request-1",
	}, call.Attributes)
	require.Equal(t, call.TraceID, work.TraceID)
	require.Equal(t, call.SpanID, work.ParentID)
	for _, body := range sink.Bodies() {
		require.NotContains(t, string(body), "secret")
		require.NotContains(t, string(body), "192.0.2.1")
	}
}

// OpenTelemetry's own variables name the process.
func TestTracer_namedByEnvironment(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "auth-of-the-north")
	sink := otlpsink.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: sink.URL(), Service: "twofold-auth", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	_, span := tracer.StartRequest(t.Context(), headers(""), false, "GET")
	span.End()
	tracer.Stop(t.Context())
	require.Len(t, sink.Spans(), 1)
	require.Equal(t, "auth-of-the-north", sink.Spans()[0].Service)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A collector that takes connections and never answers keeps neither a call nor a
// stop waiting, however many spans there are; the log hears of it.
func TestTracer_collectorHangs(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	log := &lines{} // the exporter may still be at it when the test reads
	tracer, err := tracing.New(t.Context(), tracing.Options{
		Endpoint: "http://" + listener.Addr().String(), Service: "twofold-test", Now: time.Now,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	began := time.Now()
	for range 20_000 { // ten times of what the queue holds
		_, span := tracer.StartRequest(t.Context(), headers(""), false, "GET")
		span.End()
	}
	require.Less(t, time.Since(began), 2*time.Second)
	began = time.Now()
	tracer.Stop(t.Context())
	require.Less(t, time.Since(began), 5*time.Second)
	require.Contains(t, log.String(), "not taken by the collector")
}
