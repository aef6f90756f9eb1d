package events

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/twofold-auth/twofold/services/internal/tracing"
)

// SetTrace notes the trace of ctx as the one in which the event came to be.
func (e *Event) SetTrace(ctx context.Context) { tracing.Inject(ctx, (*origin)(e)) }

// origin lets a propagator read and write the trace of an event.
type origin Event

// Get implements propagation.TextMapCarrier.
func (o *origin) Get(key string) string {
	switch key {
	case "traceparent":
		return o.TraceParent
	case "tracestate":
		return o.TraceState
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (o *origin) Set(key, value string) {
	switch key {
	case "traceparent":
		o.TraceParent = value
	case "tracestate":
		o.TraceState = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (o *origin) Keys() []string { return []string{"traceparent", "tracestate"} }

// startSpan begins the span of processing an event. Its lines in the log then
// carry the event's id and the trace of the call that caused it.
func (b *Bus) startSpan(ctx context.Context, consumer string, e Event) (context.Context, trace.Span) {
	return b.tracing.StartEvent(ctx, tracing.Event{
		ID: e.ID, Type: e.Type(), Name: e.Name(), Consumer: consumer, Origin: (*origin)(&e),
	})
}
