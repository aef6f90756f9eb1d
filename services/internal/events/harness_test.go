package events_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"

	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const (
	durable = "tester"
	patient = 30 * time.Second
	often   = 10 * time.Millisecond
)

var enabledOnly = []proto.Message{&policyv1.EnforcementEnabled{}}

type fixture struct {
	server *testkit.NATSServer
	nc     *nats.Conn
	js     jetstream.JetStream
	bus    *events.Bus
	reg    *prometheus.Registry
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{server: testkit.NATS(t), reg: prometheus.NewRegistry()}
	var err error
	f.nc, err = nats.Connect(f.server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(f.nc.Close)
	f.js, err = jetstream.New(f.nc)
	require.NoError(t, err)
	f.bus, err = events.NewBus(f.nc, events.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: f.reg})
	require.NoError(t, err)
	require.NoError(t, f.bus.EnsureStreams(t.Context()))
	return f
}

func enabled(account string, version int64) events.Event {
	return events.Event{
		ID:      uuid.Must(uuid.NewV7()).String(),
		Source:  "twofold/policy",
		Subject: "accounts/" + account + "/mfaPolicy",
		Account: account,
		Version: version,
		Time:    time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC),
		Payload: &policyv1.EnforcementEnabled{Account: account},
	}
}

func (f *fixture) publish(t *testing.T, e events.Event) uint64 {
	t.Helper()
	seq, created, err := f.bus.Publish(t.Context(), e)
	require.NoError(t, err)
	require.False(t, created.IsZero())
	return seq
}

// consume starts a consumer and returns a function that ends it and waits.
func (f *fixture) consume(t *testing.T, cfg events.ConsumerConfig) (stop func()) {
	t.Helper()
	if cfg.Durable == "" {
		cfg.Durable = durable
	}
	if cfg.Events == nil {
		cfg.Events = enabledOnly
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.bus.Consume(ctx, cfg) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-ended)
	}
	t.Cleanup(stop)
	return stop
}

// into hands deliveries to a channel.
func into(ch chan events.Delivery) events.Handler {
	return func(_ context.Context, d events.Delivery) error {
		ch <- d
		return nil
	}
}

func next(t *testing.T, ch <-chan events.Delivery) events.Delivery {
	t.Helper()
	select {
	case d := <-ch:
		return d
	case <-time.After(patient):
		require.FailNow(t, "no delivery came")
		return events.Delivery{}
	}
}

func (f *fixture) caughtUp(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		p, err := f.bus.ConsumerPosition(t.Context(), durable)
		return err == nil && p.CaughtUp()
	}, patient, often)
}

func (f *fixture) deadLetter(t *testing.T, seq uint64) *jetstream.RawStreamMsg {
	t.Helper()
	stream, err := f.js.Stream(t.Context(), events.DeadLetterStream)
	require.NoError(t, err)
	msg, err := stream.GetMsg(t.Context(), seq)
	require.NoError(t, err)
	return msg
}
