package outbox_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	callTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callParent = "00-" + callTrace + "-00f067aa0ba902b7-00"
)

// The trace of the call that changed something reaches the consumer of the event,
// whoever publishes it and however late; and each line of the consumer's log says
// trace and event.
func TestAppend_keepsTheTrace(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		call := tracing.Continue(t.Context(), propagation.MapCarrier{"traceparent": callParent, "tracestate": "vendor=1"}, true)
		for ctx, version := range map[context.Context]int64{call: 1, t.Context(): 2} {
			require.NoError(t, f.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				return outbox.Append(ctx, tx, enabled(version))
			}))
		}
		f.run(t)
		f.drained(t)

		var log bytes.Buffer
		logger, err := app.NewLogger(&log, &app.Config{LogFormat: "text", LogLevel: "info"})
		require.NoError(t, err)
		metrics := prometheus.NewRegistry()
		nc, err := nats.Connect(f.server.URL())
		require.NoError(t, err)
		defer nc.Close()
		bus, err := events.NewBus(nc, events.Options{Log: logger, Metrics: metrics})
		require.NoError(t, err)
		got := make(chan events.Delivery, 2)
		traces := make(chan string, 2)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- bus.Consume(ctx, events.ConsumerConfig{
				Durable: "reader", Events: []proto.Message{&policyv1.EnforcementEnabled{}},
				Handler: func(ctx context.Context, d events.Delivery) error {
					logger.InfoContext(ctx, "handled")
					traces <- trace.SpanContextFromContext(ctx).TraceID().String()
					got <- d
					return nil
				},
			})
		}()
		for range 2 {
			var d events.Delivery
			select {
			case d = <-got:
			case <-time.After(patient):
				require.Fail(t, "no event")
			}
			require.Equal(t, map[string]string{"traceparent": "x"}, d.Headers, "an event's own headers stay its own")
			its := <-traces
			if d.Version == 1 {
				require.Equal(t, callParent, d.TraceParent)
				require.Equal(t, "vendor=1", d.TraceState)
				require.Equal(t, callTrace, its)
			} else {
				require.Empty(t, d.TraceParent)
				require.NotEqual(t, callTrace, its)
				require.NotEqual(t, trace.TraceID{}.String(), its, "work without a call has a trace of its own")
			}
		}
		require.Eventually(t, func() bool {
			count, err := testutil.GatherAndCount(metrics, "twofold_events_consumer_waiting")
			return err == nil && count == 1
		}, patient, often)
		stop()
		require.NoError(t, <-ended)
		require.Regexp(t, `msg=handled trace_id=`+callTrace+` event_id=[0-9a-f-]{36}\n`, log.String())
	})
}

// What is in the column and is no trace is of no consequence.
func TestRelay_publishesWithABrokenTrace(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.append(t, 1)
		_, err := f.db.Exec(t.Context(), `UPDATE outbox SET headers = ?`, `{"ce-traceparent":"'; no trace","ce-tracestate":"="}`)
		require.NoError(t, err)
		f.run(t)
		f.drained(t)
		f.holds(t, 1)
	})
}
