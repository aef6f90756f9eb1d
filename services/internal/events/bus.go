package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	// Stream keeps the events, DeadLetterStream what could not be processed.
	Stream           = "TWOFOLD"
	DeadLetterStream = "TWOFOLD_DLQ"

	deadLetterRoot = "twofold-dlq"

	// MaxAge is longer than the longest session (30 days), so that whatever may
	// still concern a session can be replayed.
	MaxAge = 35 * 24 * time.Hour
	// duplicateWindow spares the consumers most duplicates. It is never what
	// they rely on.
	duplicateWindow = 2 * time.Minute

	// apiTimeout bounds each request by itself: one that was sent while the server
	// went away is never answered, and must not use up its caller's time.
	apiTimeout = 3 * time.Second
)

// ErrNotFound is returned by Bus.EventAt when the stream has no such message.
var ErrNotFound = errors.New("events: no message at that sequence")

// Options of a Bus.
type Options struct {
	// Replicas of the streams; 0 is 1.
	Replicas int
	// Log takes what consumers have to say. Required.
	Log *slog.Logger
	// Metrics takes the counters of the consumers. Required.
	Metrics prometheus.Registerer
	// Tracing records the work on events; nil for not at all.
	Tracing *tracing.Tracer
}

// Bus publishes and consumes events over one connection. It is safe for
// concurrent use. Closing the connection is the caller's part.
type Bus struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	log      *slog.Logger
	metrics  *metrics
	tracing  *tracing.Tracer

	mu sync.Mutex
	// stream is the stream as last seen, and created its creation time; nil and
	// zero when not known.
	stream  jetstream.Stream
	created time.Time
}

// NewBus makes a bus of a connection. It does not talk to the server yet.
func NewBus(nc *nats.Conn, o Options) (*Bus, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return &Bus{nc: nc, js: js, replicas: max(o.Replicas, 1), log: o.Log, metrics: m, tracing: o.Tracing}, nil
}

// EnsureStreams creates the two streams, or brings them to the settings they
// should have. Every service calls it, in any order and at any time.
func (b *Bus) EnsureStreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for name, root := range map[string]string{Stream: subjectRoot, DeadLetterStream: deadLetterRoot} {
		config := jetstream.StreamConfig{
			Name:       name,
			Subjects:   []string{root + ".>"},
			Retention:  jetstream.LimitsPolicy,
			Storage:    jetstream.FileStorage,
			Discard:    jetstream.DiscardOld,
			MaxAge:     MaxAge,
			Duplicates: duplicateWindow,
			Replicas:   b.replicas,
			// Direct gets are answered by any replica. The outbox's reconciler
			// must not take a replica that lags for a loss.
			AllowDirect: false,
		}
		// Creating a stream that is as it should be changes nothing, so services
		// that start together do not update it at once (the server does not guard
		// an update against a consumer being added at the same time).
		_, err := b.js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			_, err = b.js.UpdateStream(ctx, config)
		}
		if err != nil {
			return fmt.Errorf("events: ensure stream %s: %w", name, err)
		}
	}
	return nil
}

// Publish stores an event in the stream and returns its sequence, and the
// creation time of the stream that this sequence belongs to. The time is one
// that was known before the event was sent: should the stream be replaced in
// between, the event counts as sent to the old one and is sent again. An event
// that the stream will never take fails with an error marked Permanent.
func (b *Bus) Publish(ctx context.Context, e Event) (seq uint64, streamCreated time.Time, err error) {
	msg, err := encode(e)
	if err != nil {
		return 0, time.Time{}, Permanent(err)
	}
	created, err := b.streamCreated(ctx)
	if err != nil {
		return 0, time.Time{}, err
	}
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(e.ID), jetstream.WithExpectStream(Stream))
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		return 0, time.Time{}, Permanent(fmt.Errorf("events: publish %s: %w", e.Type(), err))
	}
	if err != nil {
		b.forgetStream()
		return 0, time.Time{}, fmt.Errorf("events: publish %s: %w", e.Type(), err)
	}
	return ack.Sequence, created, nil
}

// StreamState is how far the stream goes.
type StreamState struct {
	// Created tells a stream from one that replaced it.
	Created time.Time
	// FirstSeq and LastSeq bound what the stream keeps. In an empty stream
	// FirstSeq is higher than LastSeq.
	FirstSeq, LastSeq uint64
}

// StreamState asks the server.
func (b *Bus) StreamState(ctx context.Context) (StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, Stream)
	if err != nil {
		b.forgetStream()
		return StreamState{}, fmt.Errorf("events: stream %s: %w", Stream, err)
	}
	info := stream.CachedInfo()
	created := info.Created.UTC()
	b.mu.Lock()
	b.stream, b.created = stream, created
	b.mu.Unlock()
	return StreamState{Created: created, FirstSeq: info.State.FirstSeq, LastSeq: info.State.LastSeq}, nil
}

// EventAt is the id of the event stored at a sequence.
func (b *Bus) EventAt(ctx context.Context, seq uint64) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	b.mu.Lock()
	stream := b.stream
	b.mu.Unlock()
	if stream == nil {
		if stream, err = b.js.Stream(ctx, Stream); err != nil {
			return "", fmt.Errorf("events: stream %s: %w", Stream, err)
		}
	}
	msg, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("events: message %d: %w", seq, err)
	}
	return msg.Header.Get(headerID), nil
}

// IsStreamMissing says whether the server answered that there is no stream. It is
// false when the server did not answer.
func IsStreamMissing(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// Connected says whether there is a connection at the moment.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Reconnects signals each time the connection is back after it was lost, until
// stop is called. A signal that nobody took yet stands for later ones too.
func (b *Bus) Reconnects() (signal <-chan struct{}, stop func()) {
	statuses := b.nc.StatusChanged(nats.CONNECTED)
	out := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case _, open := <-statuses:
				if !open {
					return
				}
				// The stream may not be the one it was.
				b.forgetStream()
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out, func() {
		close(done)
		b.nc.RemoveStatusListener(statuses)
	}
}

func (b *Bus) streamCreated(ctx context.Context) (time.Time, error) {
	b.mu.Lock()
	created := b.created
	b.mu.Unlock()
	if !created.IsZero() {
		return created, nil
	}
	state, err := b.StreamState(ctx)
	return state.Created, err
}

func (b *Bus) forgetStream() {
	b.mu.Lock()
	b.stream, b.created = nil, time.Time{}
	b.mu.Unlock()
}
