package tracing

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// reportEvery is how often the log is told that spans get lost.
const reportEvery = time.Minute

// allowed returns the attributes that may leave the process. What is not here does
// not leave, whichever instrumentation has set it: peers' addresses are personal
// data, and nobody looks for a secret in a span.
func allowed(key attribute.Key) bool {
	switch key {
	case "rpc.system.name", "rpc.system", "rpc.service", "rpc.method", "rpc.response.status_code", "rpc.grpc.status_code",
		"http.request.method", "http.route", "http.response.status_code", "error.type",
		"messaging.system", "messaging.operation.type", "messaging.consumer.group.name", "messaging.message.id",
		"cloudevents.event_type", "twofold.request_id":
		return true
	}
	return false
}

// guard stands before an exporter. It lets out only what may leave, and keeps a
// collector's trouble to itself but for a word in the log now and then: the SDK
// would hand each failure to a handler of the whole process.
type guard struct {
	to  sdktrace.SpanExporter
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	reported time.Time
	lost     int
}

// ExportSpans implements sdktrace.SpanExporter. It never fails.
func (g *guard) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	out := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		out[i] = bare{span}
	}
	if err := g.to.ExportSpans(ctx, out); err != nil {
		g.report(ctx, len(spans), err)
	}
	return nil
}

func (g *guard) report(ctx context.Context, lost int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost += lost
	if now := g.now(); now.Sub(g.reported) >= reportEvery {
		g.log.WarnContext(ctx, "Traces are not taken by the collector", "lost_spans", g.lost, "error", err)
		g.reported, g.lost = now, 0
	}
}

// Shutdown implements sdktrace.SpanExporter.
func (g *guard) Shutdown(ctx context.Context) error { return g.to.Shutdown(ctx) }

// bare is a span without what may not leave.
type bare struct{ sdktrace.ReadOnlySpan }

// Attributes returns those on the list.
func (s bare) Attributes() []attribute.KeyValue {
	var out []attribute.KeyValue
	for _, attr := range s.ReadOnlySpan.Attributes() {
		if allowed(attr.Key) {
			out = append(out, attr)
		}
	}
	return out
}

// Status returns the code alone: descriptions are error messages.
func (s bare) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}

// Events returns nothing: the SDK records panics and errors as events, with texts.
func (bare) Events() []sdktrace.Event { return nil }
