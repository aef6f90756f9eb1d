package tracing

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// propagator reads and writes W3C Trace Context, and nothing else.
func propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// Continue returns the context of work that was asked for from outside, with the
// trace it belongs to: that of the span in ctx, if one was started; otherwise the
// one the asker named, if the asker is trusted with that; otherwise a new one,
// which is not recorded.
func Continue(ctx context.Context, carrier propagation.TextMapCarrier, trusted bool) context.Context {
	if here := trace.SpanContextFromContext(ctx); here.IsValid() && !here.IsRemote() {
		return ctx
	}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	if trusted {
		ctx = propagator().Extract(ctx, carrier)
		if trace.SpanContextFromContext(ctx).IsValid() {
			return ctx
		}
	}
	return trace.ContextWithSpanContext(ctx, newSpanContext())
}

// Inject writes the trace of ctx into what is sent to somebody else.
func Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	propagator().Inject(ctx, carrier)
}

// newSpanContext makes ids of a trace that is not recorded. Ids need not be
// secret, only different.
func newSpanContext() trace.SpanContext {
	var traceID trace.TraceID
	var spanID trace.SpanID
	binary.LittleEndian.PutUint64(traceID[:8], rand.Uint64())   //nolint:gosec // an id is no secret
	binary.LittleEndian.PutUint64(traceID[8:], rand.Uint64()|1) //nolint:gosec // nor zero
	binary.LittleEndian.PutUint64(spanID[:], rand.Uint64()|1)   //nolint:gosec // likewise
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
}
