package outbox_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"

	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const (
	patient = 40 * time.Second
	often   = 20 * time.Millisecond
)

type fixture struct {
	server *testkit.NATSServer
	js     jetstream.JetStream
	bus    *events.Bus
	db     *sqldb.DB
}

func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, setUp(t, testkit.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { test(t, setUp(t, testkit.Postgres(t))) })
}

func setUp(t *testing.T, url string) *fixture {
	t.Helper()
	f := &fixture{server: testkit.NATS(t)}
	nc, err := nats.Connect(f.server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	f.js, err = jetstream.New(nc)
	require.NoError(t, err)
	f.bus, err = events.NewBus(nc, events.Options{Log: quiet(), Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	f.db, err = sqldb.Open(t.Context(), url, "policy")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.db.Close()) })
	require.NoError(t, f.db.Migrate(t.Context(), fstest.MapFS{
		"0001_init.sql": {Data: []byte("-- +goose Up\n" + outbox.Schema + "-- +goose Down\nDROP TABLE outbox;\n")},
	}))
	return f
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func enabled(version int64) events.Event {
	return events.Event{
		ID: uuid.Must(uuid.NewV7()).String(), Source: "twofold/policy", Subject: "accounts/acme/mfaPolicy", Account: "acme",
		Version: version, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Headers: map[string]string{"traceparent": "x"}, Payload: &policyv1.EnforcementEnabled{},
	}
}

func (f *fixture) append(t *testing.T, versions ...int64) {
	t.Helper()
	for _, v := range versions {
		require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return outbox.Append(ctx, tx, enabled(v))
		}))
	}
}

func (f *fixture) run(t *testing.T) (relay *outbox.Relay, stop func()) {
	t.Helper()
	relay = outbox.New(f.db, f.bus, quiet(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return relay, stop
}

func (f *fixture) pending(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, f.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE publish_time IS NULL`).Scan(&n))
	return n
}

func (f *fixture) drained(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return f.pending(t) == 0 }, patient, often)
}

// stored are the versions in the stream, in its order.
func (f *fixture) stored(t *testing.T) (versions []int64) {
	t.Helper()
	err := f.bus.Replay(t.Context(), 0, 1<<40, []proto.Message{&policyv1.EnforcementEnabled{}}, func(_ context.Context, d events.Delivery) error {
		versions = append(versions, d.Version)
		return nil
	})
	if err != nil {
		return nil // the server is away
	}
	return versions
}

func (f *fixture) holds(t *testing.T, want ...int64) {
	t.Helper()
	require.Eventually(t, func() bool { return fmt.Sprint(f.stored(t)) == fmt.Sprint(want) }, patient, often,
		"the stream should hold %v", want)
}

func upTo(n int64) (versions []int64) {
	for v := int64(1); v <= n; v++ {
		versions = append(versions, v)
	}
	return versions
}

func TestRelay_publishesWhatWasCommittedAndNothingElse(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		relay, _ := f.run(t)
		require.Error(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			require.NoError(t, outbox.Append(ctx, tx, enabled(99)))
			return context.Canceled
		}))
		f.append(t, 1)
		relay.Wake()
		f.holds(t, 1)
		f.append(t, 2) // found without being woken
		f.holds(t, 1, 2)
		f.drained(t)
	})
}

func TestRelay_copiesKeepTheOrderAndPublishOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.append(t, upTo(150)...)
		for range 3 {
			f.run(t)
		}
		f.append(t, 151, 152)
		f.drained(t)
		require.Equal(t, upTo(152), f.stored(t))
	})
}

func TestRelay_publishesAgainWhatTheStreamLost(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.append(t, 1, 2)
		f.run(t)
		f.holds(t, 1, 2)
		f.drained(t)
		f.server.Wipe(t)
		f.append(t, 3)
		f.holds(t, 1, 2, 3)
		f.drained(t)
	})
}

func TestRelay_noticesALostTailBehindForeignMessages(t *testing.T) {
	f := setUp(t, testkit.SQLite(t))
	_, stop := f.run(t)
	f.append(t, 1, 2, 3)
	f.holds(t, 1, 2, 3)
	f.drained(t)
	stop()
	// The tail is gone, and another service's event took a place in it.
	stream, err := f.js.Stream(t.Context(), events.Stream)
	require.NoError(t, err)
	for seq := uint64(2); seq <= 3; seq++ {
		require.NoError(t, stream.DeleteMsg(t.Context(), seq))
	}
	_, err = f.db.Exec(t.Context(), `UPDATE outbox SET stream_seq = 4 WHERE stream_seq = 3`)
	require.NoError(t, err)
	other := enabled(50)
	_, _, err = f.bus.Publish(t.Context(), other) // sequence 4
	require.NoError(t, err)
	// A restart makes the server forget the ids of what it no longer has.
	f.server.Restart(t)
	f.run(t)
	f.holds(t, 1, 50, 2, 3)
	f.drained(t)
}

func TestRelay_unpublishableRowsHoldUpNobody(t *testing.T) {
	f := setUp(t, testkit.SQLite(t))
	f.append(t, upTo(120)...)
	_, err := f.db.Exec(t.Context(), `UPDATE outbox SET event_type = 'twofold.policy.v1.FromTheFuture'`)
	require.NoError(t, err)
	f.append(t, 500)
	f.run(t)
	f.holds(t, 500)
	// Marked a moment after it is in the stream.
	require.Eventually(t, func() bool { return f.pending(t) == 120 }, patient, often)
}

// What was committed when the process is told to end leaves before it does, also
// while a pass is under way; with NATS away it waits for the next start.
func TestRelay_publishesWhatIsLeftWhenItEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		_, stop := f.run(t)
		f.append(t, 1)
		f.drained(t)
		f.append(t, upTo(300)...) // nobody wakes the relay
		stop()
		require.Zero(t, f.pending(t))

		_, stop = f.run(t)
		f.server.Stop(t)
		f.append(t, 301)
		began := time.Now()
		stop()
		require.Less(t, time.Since(began), 4*time.Second, "nobody waits for a NATS that is away")
		require.Equal(t, 1, f.pending(t))
	})
}

func TestRelay_deletesOnlyWhatIsOldAndPublished(t *testing.T) {
	f := setUp(t, testkit.SQLite(t))
	f.append(t, 1, 2)
	_, stop := f.run(t)
	f.drained(t)
	stop()
	f.append(t, 3)
	old := time.Now().Add(-events.MaxAge - time.Hour)
	_, err := f.db.Exec(t.Context(), `UPDATE outbox SET create_time = ? WHERE version IN (1, 3)`, sqldb.Micros(old))
	require.NoError(t, err)
	f.server.Stop(t) // 3 cannot be published
	f.run(t)
	left := func() (n int) {
		require.NoError(t, f.db.QueryRow(t.Context(), `SELECT sum(version) FROM outbox`).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return left() == 5 }, patient, often)
	f.server.Start(t)
	f.drained(t)
	require.Equal(t, 5, left())
}

func TestAppend_refusesWhatCouldNeverBePublished(t *testing.T) {
	f := setUp(t, testkit.SQLite(t))
	for _, spoil := range []func(*events.Event){
		func(e *events.Event) { e.ID = "" },
		func(e *events.Event) {
			e.Payload = &policyv1.EnforcementEnabled{Account: string(make([]byte, 600<<10))}
		},
	} {
		e := enabled(1)
		spoil(&e)
		require.Error(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return outbox.Append(ctx, tx, e) }))
	}
	require.Zero(t, f.pending(t))
}
