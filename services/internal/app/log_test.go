package app

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

// A line says which call or event it belongs to, once: what it says itself stands.
func TestLogger_saysWhereALineBelongs(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, &Config{LogFormat: "json", LogLevel: "debug"})
	require.NoError(t, err)
	parent := propagation.MapCarrier{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	var none *tracing.Tracer
	ctx, span := none.StartEvent(t.Context(), tracing.Event{ID: "event-1", Origin: parent})
	span.End()
	ctx = authz.NewContext(ctx, &authz.Caller{RequestID: "request-1"})
	log.InfoContext(ctx, "x")
	log.InfoContext(ctx, "x", slog.String("event_id", "its own"), slog.String("request_id", "its own"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	for i, want := range []string{"event-1 request-1", "its own its own"} {
		var fields map[string]string
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &fields))
		require.Equal(t, want, fields["event_id"]+" "+fields["request_id"])
		require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", fields["trace_id"])
		require.NotContains(t, fields, "span_id", "the trace is not recorded")
		for _, key := range []string{"event_id", "request_id", "trace_id"} {
			require.Equal(t, 1, strings.Count(lines[i], `"`+key+`"`), "twice in %s", lines[i])
		}
	}
}

// Traces are off unless a collector is named, in the only protocol there is.
func TestConfig_collector(t *testing.T) {
	config, err := LoadConfig([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_off"})
	require.NoError(t, err, "the SDK's other variables are its own")
	tracer, err := NewTracer(t.Context(), "auth", config, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Nil(t, tracer)

	config, err = LoadConfig([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"})
	require.NoError(t, err)
	tracer, err = NewTracer(t.Context(), "auth", config, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NotNil(t, tracer)
	tracer.Stop(t.Context())

	_, err = LoadConfig([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"})
	require.ErrorContains(t, err, "OTEL_EXPORTER_OTLP_ENDPOINT is not")
	require.ErrorContains(t, err, "OTEL_EXPORTER_OTLP_PROTOCOL is not")
}
