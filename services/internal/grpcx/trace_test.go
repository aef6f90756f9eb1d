package grpcx_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/testkit/otlpsink"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	callersTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersParent = "00-" + callersTrace + "-00f067aa0ba902b7-01"
)

// With or without somebody who collects traces: each call has one, the log names
// it, and it is the caller's only if the caller has shown a certificate.
func TestTraces_areContinuedForHoldersOfACertificate(t *testing.T) {
	sink := otlpsink.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: sink.URL(), Service: "probe", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	for name, by := range map[string]*tracing.Tracer{"recorded": tracer, "not recorded": nil} {
		h := newHarness(t, func(c *grpcx.ServerConfig) { c.Tracing = by })
		var inside trace.SpanContext
		h.probe.handle = func(ctx context.Context, _ *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
			inside = trace.SpanContextFromContext(ctx)
			return &sessionv1.ValidateSessionResponse{}, nil
		}
		require.NoError(t, h.call(h.conn("gateway"), "Anyone", "traceparent", callersParent), name)
		require.Equal(t, callersTrace, inside.TraceID().String(), name)
		for _, sent := range []string{callersParent, "no trace", ""} {
			require.NoError(t, h.call(h.conn(""), "Anyone", "traceparent", sent), name)
			require.True(t, inside.IsValid(), name)
			require.NotEqual(t, callersTrace, inside.TraceID().String(), "%s: a stranger's %q", name, sent)
		}
		require.Equal(t, by != nil, inside.IsSampled(), name)
		// Names that strangers make up are no names of spans.
		require.Error(t, h.call(h.conn(""), "MadeUp"))
		require.NoError(t, h.stop())
		require.NotContains(t, h.log.String(), "MadeUp")
	}
	tracer.Stop(t.Context())
	linked := 0
	require.Len(t, sink.Spans(), 4)
	for _, span := range sink.Spans() {
		require.Equal(t, probeService+"/Anyone", span.Name)
		require.NotEmpty(t, span.Attributes["twofold.request_id"])
		linked += len(span.Links)
	}
	require.Equal(t, 1, linked, "a stranger's trace is linked to")
}

// A call made for a call is in the same trace, with the recorder and without.
func TestTraces_goOnWithTheNextCall(t *testing.T) {
	sink := otlpsink.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: sink.URL(), Service: "probe", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	defer tracer.Stop(t.Context())
	for name, by := range map[string]*tracing.Tracer{"recorded": tracer, "not recorded": nil} {
		h := newHarness(t, func(c *grpcx.ServerConfig) { c.Tracing = by })
		source, err := h.authority.Source("gateway")
		require.NoError(t, err)
		conn := h.dial(grpcx.DialOptions{TLS: mtls.ClientConfig(source, "probe"), Tracing: by})
		var traces []string
		h.probe.handle = func(ctx context.Context, request *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
			traces = append(traces, trace.SpanContextFromContext(ctx).TraceID().String())
			response := &sessionv1.ValidateSessionResponse{}
			if !request.GetTouch() {
				return response, nil
			}
			return response, conn.Invoke(ctx, "/"+probeService+"/Anyone", &sessionv1.ValidateSessionRequest{}, response)
		}
		require.NoError(t, conn.Invoke(t.Context(), "/"+probeService+"/Anyone", &sessionv1.ValidateSessionRequest{Touch: true}, &sessionv1.ValidateSessionResponse{}))
		require.Len(t, traces, 2, name)
		require.Equal(t, traces[0], traces[1], name)
	}
}
