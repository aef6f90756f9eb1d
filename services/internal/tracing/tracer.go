package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/twofold-auth/twofold/services/internal/tracing"
	// stopTimeout bounds how long a process that stops waits for its last spans to
	// be taken. A collector that is away must not keep it.
	stopTimeout = 3 * time.Second
)

// Options of a Tracer.
type Options struct {
	// Endpoint is the base URL of an OTLP/HTTP receiver, such as
	// http://collector:4318.
	Endpoint string
	// Service is the name of the process, unless OTEL_SERVICE_NAME or
	// OTEL_RESOURCE_ATTRIBUTES say another.
	Service string
	// Log is told when spans cannot be delivered.
	Log *slog.Logger
	Now func() time.Time
}

// Tracer records spans. The nil Tracer records none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	log      *slog.Logger
}

// New returns a Tracer that sends its spans to a collector, in batches and in the
// background: callers never wait for it, and what does not fit its queue is
// dropped. It does not talk to the collector yet. How much is sampled, the size of
// batches and the credentials of the collector are read by the SDK from its own
// variables (OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_EXPORTER_OTLP_…).
func New(ctx context.Context, o Options) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(o.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// What is in the environment wins over what stands here.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", o.Service)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tracing: %w", err), exporter.Shutdown(ctx))
	}
	return &Tracer{provider: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&guard{to: exporter, log: o.Log, now: o.Now}),
		sdktrace.WithResource(about),
	), log: o.Log}, nil
}

// Stop sends the spans that wait, for a few seconds at most, whether or not ctx
// has ended.
func (t *Tracer) Stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.WarnContext(ctx, "The last traces are not taken by the collector", "error", err)
	}
}

// StartRequest begins the span of an HTTP request. Its route is not known yet:
// see Route. The caller ends the span.
func (t *Tracer) StartRequest(ctx context.Context, headers propagation.TextMapCarrier, trusted bool, method string) (context.Context, trace.Span) {
	if t == nil {
		ctx = Continue(ctx, headers, trusted)
		return ctx, trace.SpanFromContext(ctx)
	}
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method)),
	}
	named := propagator().Extract(ctx, headers)
	if trusted {
		ctx = named
	} else if theirs := trace.SpanContextFromContext(named); theirs.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: theirs}))
	}
	return t.provider.Tracer(scope).Start(ctx, method, options...) //nolint:spancheck // the caller ends it
}

// StartEvent begins the span of processing an event, as a child of the call that
// caused it. The caller ends the span.
func (t *Tracer) StartEvent(ctx context.Context, e Event) (context.Context, trace.Span) {
	ctx = withEvent(Continue(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), e.Origin, true), e.ID)
	if t == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	about := trace.WithAttributes(
		attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.consumer.group.name", e.Consumer), attribute.String("messaging.message.id", e.ID),
		attribute.String("cloudevents.event_type", e.Type),
	)
	return t.provider.Tracer(scope).Start(ctx, "process "+e.Name, trace.WithSpanKind(trace.SpanKindConsumer), about) //nolint:spancheck // likewise
}

// End ends a span of work that failed, or did not.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "") // what went wrong is in the log
	}
	span.End()
}

// Event is what a span says of an event.
type Event struct {
	ID, Type, Name string
	// Consumer is who processes it.
	Consumer string
	// Origin holds the trace of the call that caused the event.
	Origin propagation.TextMapCarrier
}
