package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

type eventKey struct{}

// withEvent returns the context of work on an event.
func withEvent(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, eventKey{}, id)
}

// LogAttrs returns what a log line says of the work it belongs to: the trace, the
// span if it is recorded, and the event if one is being processed.
func LogAttrs(ctx context.Context) []slog.Attr {
	var attrs []slog.Attr
	if at := trace.SpanContextFromContext(ctx); at.IsValid() {
		attrs = append(attrs, slog.String("trace_id", at.TraceID().String()))
		if at.IsSampled() {
			attrs = append(attrs, slog.String("span_id", at.SpanID().String()))
		}
	}
	if id, ok := ctx.Value(eventKey{}).(string); ok {
		attrs = append(attrs, slog.String("event_id", id))
	}
	return attrs
}

// NoteRequest writes the id of a request, which its caller has been told, to its
// span.
func NoteRequest(ctx context.Context, id string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("twofold.request_id", id))
	}
}
