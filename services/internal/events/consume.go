package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
)

const (
	defaultBatch          = 16
	defaultHandlerTimeout = time.Minute
	defaultMinBackOff     = 250 * time.Millisecond
	// Short enough that everything is caught up within minutes after a fault.
	defaultMaxBackOff = 30 * time.Second
	defaultAckWait    = 15 * time.Second

	// A pull request lasts this long; its heartbeats tell within twice their
	// interval that the server forgot about it.
	pullWait      = 10 * time.Second
	pullHeartbeat = 1 * time.Second

	// Messages that wait for their next try count as pending, and must not keep
	// the others away.
	maxAckPending = 20_000

	observeEvery = 10 * time.Second

	minReconnectPause = 50 * time.Millisecond
	maxReconnectPause = 3 * time.Second
)

var validDurable = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// Delivery is an event as a consumer gets it.
type Delivery struct {
	Event
	// StreamSequence is the event's place in the stream. A later event has a
	// higher one, but a repeated delivery comes late.
	StreamSequence uint64
	// Attempt counts the deliveries of this message, from 1. In a replay it is 1.
	Attempt uint64
	// StoreTime is when the stream took the event.
	StoreTime time.Time
}

// Handler processes one delivery. The context ends with the consumer or with
// ConsumerConfig.HandlerTimeout. See the package's words on what it may rely on.
type Handler func(ctx context.Context, d Delivery) error

// ConsumerConfig says what to consume and how.
type ConsumerConfig struct {
	// Durable names the consumer, and so its position in the stream; copies of a
	// service share it and its work.
	Durable string
	// Events are (empty) messages of the types wanted.
	Events []proto.Message
	// Handler is called for each event, by Workers goroutines at a time.
	Handler Handler

	// Workers is how many events are handled at the same time; 0 is 1, which
	// keeps the order of the stream but for repetitions.
	Workers int
	// MaxAckPending is how many events all copies of the service together may have
	// in hand; 0 is 20,000. With 1 the order of the stream is kept strictly: an
	// event that fails holds up those behind it, in every copy.
	MaxAckPending int
	// Batch is how many messages are held at most; 0 is 16.
	Batch int
	// HandlerTimeout bounds a call of Handler; 0 is a minute.
	HandlerTimeout time.Duration
	// MinBackOff and MaxBackOff bound the growing pause before a message whose
	// handler failed comes again; 0 is 250 ms and 30 s.
	MinBackOff, MaxBackOff time.Duration
	// AckWait is how long the server waits for a sign of life before it gives a
	// held message to another copy; 0 is 15 s. Signs are sent three times as
	// often.
	AckWait time.Duration
}

func (c ConsumerConfig) withDefaults() (ConsumerConfig, error) {
	if !validDurable.MatchString(c.Durable) {
		return c, fmt.Errorf("events: consumer name %q does not match %s", c.Durable, validDurable)
	}
	if c.Handler == nil {
		return c, fmt.Errorf("events: consumer %s has no handler", c.Durable)
	}
	c.Workers = max(c.Workers, 1)
	if c.MaxAckPending <= 0 {
		c.MaxAckPending = maxAckPending
	}
	if c.Batch <= 0 {
		c.Batch = defaultBatch
	}
	c.HandlerTimeout = orDefault(c.HandlerTimeout, defaultHandlerTimeout)
	c.MinBackOff = orDefault(c.MinBackOff, defaultMinBackOff)
	c.MaxBackOff = orDefault(c.MaxBackOff, max(defaultMaxBackOff, c.MinBackOff))
	c.AckWait = orDefault(c.AckWait, defaultAckWait)
	return c, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// Consume handles events until ctx ends; then it stops pulling, gives back what
// it holds and returns nil. Meanwhile it gets over everything the server may do:
// restart, lose the consumer, lose the stream. Only a wrong configuration and a
// connection that was closed for good make it return an error.
func (b *Bus) Consume(ctx context.Context, cfg ConsumerConfig) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	subjects, err := filters(cfg.Events)
	if err != nil {
		return err
	}
	b.metrics.begin(cfg)
	w := &worker{bus: b, cfg: cfg, log: b.log.With(slog.String("consumer", cfg.Durable))}
	failures := 0
	for ctx.Err() == nil {
		handled, err := b.consumeOnce(ctx, w, subjects)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ending is what was asked for
		}
		if b.nc.IsClosed() {
			return fmt.Errorf("events: consumer %s: %w", cfg.Durable, err)
		}
		if handled {
			failures = 0
		}
		w.log.WarnContext(ctx, "Consumer interrupted, trying again", slog.Any("error", err))
		wait(ctx, backOff(failures, minReconnectPause, maxReconnectPause))
		failures++
	}
	return nil
}

// consumeOnce makes sure that stream and consumer exist and pulls until
// something fails. It says whether it had come as far as pulling.
func (b *Bus) consumeOnce(ctx context.Context, w *worker, subjects []string) (pulled bool, err error) {
	consumer, err := b.ensureConsumer(ctx, w.cfg, subjects)
	if err != nil {
		return false, err
	}
	observing, stop := context.WithCancel(ctx)
	var observed sync.WaitGroup
	observed.Go(func() { b.observe(observing, consumer, w.cfg.Durable) })
	defer observed.Wait()
	defer stop()
	for ctx.Err() == nil {
		if err := b.take(ctx, consumer, w.cfg.Batch, func(messages <-chan jetstream.Msg) { w.process(ctx, messages) }); err != nil {
			return pulled, err
		}
		pulled = true
	}
	return pulled, ctx.Err()
}

// observe sets how far the consumer is behind, now and then: beside the pulling,
// for a handler that hangs is what makes it fall behind.
func (b *Bus) observe(ctx context.Context, consumer jetstream.Consumer, durable string) {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, apiTimeout)
		// A server that does not answer is reported by the pulls.
		if info, err := consumer.Info(asking); err == nil {
			b.metrics.waiting.WithLabelValues(durable).Set(float64(info.NumPending))
			b.metrics.held.WithLabelValues(durable).Set(float64(info.NumAckPending))
		}
		cancel()
		wait(ctx, observeEvery)
	}
}

// pull asks for up to size messages and has them handled.
func (b *Bus) pull(ctx context.Context, consumer jetstream.Consumer, size int, handle func(jetstream.MessageBatch) error) error {
	// The library makes the request end shortly before its context does.
	ctx, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	batch, err := consumer.Fetch(size, jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	if err := handle(batch); err != nil {
		return err
	}
	return batch.Error()
}

func (b *Bus) ensureConsumer(ctx context.Context, cfg ConsumerConfig, subjects []string) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:        cfg.Durable,
		FilterSubjects: subjects,
		// A consumer that was lost starts over: too much is safe, too little is not.
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       cfg.AckWait,
		MaxDeliver:    -1, // giving up silently is no option
		MaxAckPending: cfg.MaxAckPending,
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, Stream, want)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := b.EnsureStreams(ctx); err != nil {
			return nil, err
		}
		consumer, err = b.js.CreateOrUpdateConsumer(ctx, Stream, want)
	}
	if err != nil {
		return nil, fmt.Errorf("events: ensure consumer %s: %w", cfg.Durable, err)
	}
	return consumer, nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
