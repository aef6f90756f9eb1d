package events_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"

	"github.com/twofold-auth/twofold/services/internal/events"
)

func TestPublish_isACloudEventAndComesOutAsItWentIn(t *testing.T) {
	f := setUp(t)
	e := enabled("acme", 7)
	e.Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	seq := f.publish(t, e)

	stream, err := f.js.Stream(t.Context(), events.Stream)
	require.NoError(t, err)
	raw, err := stream.GetMsg(t.Context(), seq)
	require.NoError(t, err)
	require.Equal(t, "twofold.policy.EnforcementEnabled.acme", raw.Subject)
	for name, want := range map[string]string{
		"ce-specversion": "1.0", "ce-id": e.ID, "ce-source": "twofold/policy", "ce-type": "twofold.policy.v1.EnforcementEnabled",
		"ce-time": "2026-01-02T03:04:05.678901Z", "ce-subject": "accounts/acme/mfaPolicy", "ce-aggregateversion": "7",
		"content-type": "application/protobuf", "Nats-Msg-Id": e.ID,
	} {
		require.Equal(t, want, raw.Header.Get(name), name)
	}

	got := make(chan events.Delivery, 1)
	f.consume(t, events.ConsumerConfig{Handler: into(got)})
	d := next(t, got)
	require.True(t, proto.Equal(e.Payload, d.Payload))
	d.Payload, e.Payload = nil, nil
	require.Equal(t, e, d.Event)
	require.Equal(t, seq, d.StreamSequence)
	require.EqualValues(t, 1, d.Attempt)
	require.WithinDuration(t, time.Now(), d.StoreTime, time.Minute)
}

func TestPublish_duplicateIsOneMessage(t *testing.T) {
	f := setUp(t)
	e := enabled("acme", 1)
	first := f.publish(t, e)
	require.Equal(t, first, f.publish(t, e))
	id, err := f.bus.EventAt(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, e.ID, id)
	_, err = f.bus.EventAt(t.Context(), first+1)
	require.ErrorIs(t, err, events.ErrNotFound)
}

func TestPublish_refusesWhatCouldNotBeRead(t *testing.T) {
	f := setUp(t)
	for name, spoil := range map[string]func(*events.Event){
		"no id":              func(e *events.Event) { e.ID = "" },
		"no source":          func(e *events.Event) { e.Source = "" },
		"no subject":         func(e *events.Event) { e.Subject = "" },
		"no time":            func(e *events.Event) { e.Time = time.Time{} },
		"no payload":         func(e *events.Event) { e.Payload = nil },
		"line break":         func(e *events.Event) { e.Subject = "a\r\nce-id: other" },
		"wildcard account":   func(e *events.Event) { e.Account = "*" },
		"two-token account":  func(e *events.Event) { e.Account = "a.b" },
		"envelope header":    func(e *events.Event) { e.Headers = map[string]string{"CE-id": "x"} },
		"server header":      func(e *events.Event) { e.Headers = map[string]string{"nats-msg-id": "x"} },
		"header line break":  func(e *events.Event) { e.Headers = map[string]string{"a": "b\nc"} },
		"payload too large":  func(e *events.Event) { e.Headers = map[string]string{"a": string(make2MiB())} },
		"header name spaces": func(e *events.Event) { e.Headers = map[string]string{"a b": "c"} },
	} {
		e := enabled("acme", 1)
		spoil(&e)
		_, _, err := f.bus.Publish(t.Context(), e)
		require.Error(t, err, name)
		require.True(t, events.IsPermanent(err), name)
	}
}

func make2MiB() []byte {
	b := make([]byte, 2<<20)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

func TestConsume_wantsOnlySomeTypesOfEveryAccount(t *testing.T) {
	f := setUp(t)
	got := make(chan events.Delivery, 3)
	f.consume(t, events.ConsumerConfig{Handler: into(got)})
	other := enabled("acme", 2)
	other.Payload = &policyv1.EnforcementDisabled{Account: "acme"}
	f.publish(t, enabled("acme", 1))
	f.publish(t, other)
	f.publish(t, enabled("zeta", 1))
	platform := enabled("zeta", 3)
	platform.Account = ""
	f.publish(t, platform)

	require.Equal(t, "acme", next(t, got).Account)
	require.Equal(t, "zeta", next(t, got).Account)
	require.Empty(t, next(t, got).Account)
	f.caughtUp(t)
}

func TestConsume_failureComesBackWithGrowingPausesAndHoldsUpNobody(t *testing.T) {
	f := setUp(t)
	bad, good := enabled("bad", 1), enabled("good", 1)
	f.publish(t, bad)
	f.publish(t, good)

	var attempts []time.Time
	goodAt := -1
	done := make(chan struct{})
	f.consume(t, events.ConsumerConfig{MinBackOff: 100 * time.Millisecond, Handler: func(_ context.Context, d events.Delivery) error {
		if d.Account == "good" {
			goodAt = len(attempts)
			return nil
		}
		attempts = append(attempts, time.Now())
		if d.Attempt != uint64(len(attempts)) {
			t.Errorf("attempt %d came as %d", len(attempts), d.Attempt)
		}
		switch len(attempts) {
		case 5:
			close(done)
			return nil
		case 2:
			panic("on the second try")
		default:
			return errors.New("not yet")
		}
	}})
	select {
	case <-done:
	case <-time.After(patient):
		require.FailNow(t, "gave up")
	}
	f.caughtUp(t)
	require.Equal(t, 1, goodAt, "the other event came right after the first failure")
	for i, least := range []time.Duration{45 * time.Millisecond, 95 * time.Millisecond, 195 * time.Millisecond, 395 * time.Millisecond} {
		require.GreaterOrEqual(t, attempts[i+1].Sub(attempts[i]), least, "pause %d", i+1)
	}
	require.InDelta(t, 4, f.counter(t, "twofold_events_handled_total", "retry"), 0)
	require.InDelta(t, 2, f.counter(t, "twofold_events_handled_total", "ok"), 0)
}

// counter sums the samples of a metric that carry a label of that value.
func (f *fixture) counter(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	require.NoError(t, err)
	var sum float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				if pair.GetValue() == label {
					sum += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func TestConsume_poisonAndPermanentErrorsBecomeDeadLetters(t *testing.T) {
	f := setUp(t)
	base := func() *nats.Msg {
		msg := nats.NewMsg("twofold.policy.EnforcementEnabled.acme")
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "ce-id": "id-1", "ce-source": "s", "ce-type": "twofold.policy.v1.EnforcementEnabled",
			"ce-time": "2026-01-02T03:04:05Z", "ce-subject": "s", "ce-aggregateversion": "1", "content-type": "application/protobuf",
		} {
			msg.Header.Set(name, value)
		}
		return msg
	}
	poison := map[string]func(*nats.Msg){
		"no headers":      func(m *nats.Msg) { m.Header = nats.Header{} },
		"garbage":         func(m *nats.Msg) { m.Data = []byte{0xff, 0xff, 0xff} },
		"unknown type":    func(m *nats.Msg) { m.Header.Set("ce-type", "twofold.policy.v1.Nonsense") },
		"foreign type":    func(m *nats.Msg) { m.Header.Set("ce-type", "google.protobuf.Timestamp") },
		"other subject":   func(m *nats.Msg) { m.Header.Set("ce-type", "twofold.policy.v1.EnforcementDisabled") },
		"no id":           func(m *nats.Msg) { m.Header.Del("ce-id") },
		"no version":      func(m *nats.Msg) { m.Header.Del("ce-aggregateversion") },
		"time as a word":  func(m *nats.Msg) { m.Header.Set("ce-time", "yesterday") },
		"other spec":      func(m *nats.Msg) { m.Header.Set("ce-specversion", "2.0") },
		"json":            func(m *nats.Msg) { m.Header.Set("content-type", "application/json") },
		"no content type": func(m *nats.Msg) { m.Header.Del("content-type") },
	}
	var last uint64
	for _, spoil := range poison {
		msg := base()
		spoil(msg)
		_, err := f.js.PublishMsg(t.Context(), msg)
		require.NoError(t, err)
	}
	last = f.publish(t, enabled("refused", 1))
	f.publish(t, enabled("good", 1))

	got := make(chan events.Delivery, 1)
	f.consume(t, events.ConsumerConfig{Handler: func(_ context.Context, d events.Delivery) error {
		if d.Account == "refused" {
			return fmt.Errorf("handler: %w", events.Permanent(errors.New("never\r\nwill")))
		}
		got <- d
		return nil
	}})
	require.Equal(t, "good", next(t, got).Account)
	f.caughtUp(t)

	stream, err := f.js.Stream(t.Context(), events.DeadLetterStream)
	require.NoError(t, err)
	require.EqualValues(t, len(poison)+1, stream.CachedInfo().State.Msgs)
	dead := f.deadLetter(t, uint64(len(poison)+1))
	require.Equal(t, "twofold-dlq.tester.EnforcementEnabled.refused", dead.Subject)
	require.Equal(t, "handler: never  will", dead.Header.Get("Twofold-Dlq-Reason"))
	require.Equal(t, strconv.FormatUint(last, 10), dead.Header.Get("Twofold-Dlq-Sequence"))
	require.Equal(t, "twofold.policy.v1.EnforcementEnabled", dead.Header.Get("ce-type"))
	require.InDelta(t, len(poison)+1, f.counter(t, "twofold_events_dead_letters_total", durable), 0)
	require.Zero(t, f.counter(t, "twofold_events_handled_total", "retry"))
}

// An alert on an increase of dead letters sees the first one only if there was a
// zero before.
func TestConsume_countsDeadLettersFromZero(t *testing.T) {
	f := setUp(t)
	got := make(chan events.Delivery, 1)
	f.consume(t, events.ConsumerConfig{Handler: into(got)})
	f.publish(t, enabled("acme", 1))
	next(t, got)
	zeros, err := testutil.GatherAndCount(f.reg, "twofold_events_dead_letters_total")
	require.NoError(t, err)
	require.Equal(t, len(enabledOnly)+1, zeros, "each event, and what is none")
	require.Zero(t, f.counter(t, "twofold_events_dead_letters_total", durable))
}

func TestConsume_survivesLossOfConsumerStreamAndServer(t *testing.T) {
	f := setUp(t)
	got := make(chan events.Delivery, 100)
	f.consume(t, events.ConsumerConfig{Handler: into(got)})
	until := func(account string) {
		t.Helper()
		for next(t, got).Account != account { // earlier ones may come again
		}
	}
	f.publish(t, enabled("a", 1))
	until("a")

	require.NoError(t, f.js.DeleteConsumer(t.Context(), events.Stream, durable))
	f.publish(t, enabled("b", 1))
	until("b")

	f.server.Restart(t)
	require.Eventually(t, func() bool { _, _, err := f.bus.Publish(t.Context(), enabled("c", 1)); return err == nil }, patient, often)
	until("c")

	before, err := f.bus.StreamState(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.js.DeleteStream(t.Context(), events.Stream))
	// Nobody but the consumer makes it again.
	require.Eventually(t, func() bool { _, _, err := f.bus.Publish(t.Context(), enabled("d", 1)); return err == nil }, patient, often)
	until("d")
	after, err := f.bus.StreamState(t.Context())
	require.NoError(t, err)
	require.True(t, after.Created.After(before.Created))

	f.server.Wipe(t)
	require.Eventually(t, func() bool { _, _, err := f.bus.Publish(t.Context(), enabled("e", 1)); return err == nil }, patient, often)
	until("e")
}

func TestConsume_slowHandlerKeepsItsMessages(t *testing.T) {
	f := setUp(t)
	for i := range 3 {
		f.publish(t, enabled("acme", int64(i)))
	}
	var calls atomic.Int32
	release := make(chan struct{})
	cfg := events.ConsumerConfig{AckWait: time.Second, Handler: func(_ context.Context, d events.Delivery) error {
		calls.Add(1)
		if d.Attempt != 1 {
			t.Errorf("version %d came again", d.Version)
		}
		<-release
		return nil
	}}
	f.consume(t, cfg)
	f.consume(t, cfg) // another copy, which must not get what the first one holds
	timer := time.AfterFunc(3*time.Second, func() { close(release) })
	defer timer.Stop()
	<-release
	f.caughtUp(t)
	require.EqualValues(t, 3, calls.Load())
}

func TestConsume_givesBackWhatItHoldsWhenItEnds(t *testing.T) {
	f := setUp(t)
	for i := range 4 {
		f.publish(t, enabled("acme", int64(i)))
	}
	started := make(chan struct{}, 4)
	stop := f.consume(t, events.ConsumerConfig{AckWait: time.Hour, Handler: func(ctx context.Context, _ events.Delivery) error {
		started <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	<-started
	stop()
	require.Empty(t, started, "no further handler was called")

	// Were one not given back, it would stay away for an hour.
	got := make(chan events.Delivery, 4)
	f.consume(t, events.ConsumerConfig{AckWait: time.Hour, Handler: into(got)})
	versions := map[int64]bool{}
	for len(versions) < 4 {
		versions[next(t, got).Version] = true
	}
	f.caughtUp(t)
}

func TestConsume_workersHandleAtTheSameTime(t *testing.T) {
	f := setUp(t)
	f.publish(t, enabled("a", 1))
	f.publish(t, enabled("b", 1))
	meet := make(chan struct{})
	f.consume(t, events.ConsumerConfig{Workers: 2, Handler: func(ctx context.Context, _ events.Delivery) error {
		select { // each can only go on when the other has come
		case meet <- struct{}{}:
		case <-meet:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}})
	f.caughtUp(t)
}

func TestConsume_refusesWrongConfiguration(t *testing.T) {
	f := setUp(t)
	ok := into(nil)
	for name, cfg := range map[string]events.ConsumerConfig{
		"no name":     {Events: enabledOnly, Handler: ok},
		"dotted name": {Durable: "a.b", Events: enabledOnly, Handler: ok},
		"no handler":  {Durable: durable, Events: enabledOnly},
		"no events":   {Durable: durable, Handler: ok},
	} {
		require.Error(t, f.bus.Consume(t.Context(), cfg), name)
	}
}

func TestConsumerPosition(t *testing.T) {
	f := setUp(t)
	_, err := f.bus.ConsumerPosition(t.Context(), durable)
	require.Error(t, err)
	seq := f.publish(t, enabled("acme", 1))
	fail := make(chan struct{})
	f.consume(t, events.ConsumerConfig{MinBackOff: time.Millisecond, Handler: func(context.Context, events.Delivery) error {
		select {
		case <-fail:
			return nil
		default:
			return errors.New("not yet")
		}
	}})
	var p events.Position
	// NATS tells of a new consumer a moment before it has counted what waits for it.
	require.Eventually(t, func() bool {
		p, err = f.bus.ConsumerPosition(t.Context(), durable)
		return err == nil && p.Open == 1
	}, patient, often)
	require.Zero(t, p.AckFloor)
	close(fail)
	f.caughtUp(t)
	p, err = f.bus.ConsumerPosition(t.Context(), durable)
	require.NoError(t, err)
	require.Equal(t, seq, p.AckFloor)
	require.Equal(t, seq, p.Stream.LastSeq)
	require.False(t, p.Stream.Created.IsZero())
}
