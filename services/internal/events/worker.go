package events

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	// settleTimeout bounds the last word on a message, which is given even when
	// the consumer is ending.
	settleTimeout = 5 * time.Second

	unknownEvent = "unknown"

	headerReason   = "Twofold-Dlq-Reason"
	headerConsumer = "Twofold-Dlq-Consumer"
	headerSequence = "Twofold-Dlq-Sequence"
)

// worker handles the messages of one consumer.
type worker struct {
	bus *Bus
	cfg ConsumerConfig
	log *slog.Logger
}

// process handles messages to their end, with a sign of life for everything held.
func (w *worker) process(ctx context.Context, messages <-chan jetstream.Msg) {
	held := &heldMessages{messages: make(map[jetstream.Msg]struct{})}
	stopSigns := w.giveSigns(held)
	defer stopSigns()

	// As large as a batch: taking messages over must not wait for a handler,
	// or they would get no signs of life.
	queue := make(chan jetstream.Msg, w.cfg.Batch)
	var handlers sync.WaitGroup
	for range w.cfg.Workers {
		handlers.Go(func() {
			for msg := range queue {
				w.handle(ctx, msg)
				held.remove(msg)
			}
		})
	}
	for msg := range messages {
		held.add(msg)
		queue <- msg
	}
	close(queue)
	handlers.Wait()
	if ctx.Err() != nil {
		// What was given back must leave before the process does.
		if err := w.bus.nc.FlushTimeout(settleTimeout); err != nil {
			w.log.WarnContext(ctx, "Flushing acknowledgments failed", slog.Any("error", err))
		}
	}
}

// handle sees one message to its end: done, to be repeated, or dead.
func (w *worker) handle(ctx context.Context, msg jetstream.Msg) {
	if ctx.Err() != nil {
		w.settled(ctx, "give back", msg.Nak())
		return
	}
	meta, err := msg.Metadata()
	if err != nil { // not from a stream; nobody waits for an answer
		w.log.ErrorContext(ctx, "Message without metadata", slog.Any("error", err))
		return
	}
	name := unknownEvent
	e, err := decode(msg.Subject(), msg.Headers(), msg.Data())
	if meta.NumDelivered > 1 {
		w.bus.metrics.redelivered.WithLabelValues(w.cfg.Durable).Inc()
	}
	if err != nil {
		err = Permanent(err)
	} else {
		name = e.Name()
		var span trace.Span
		ctx, span = w.bus.startSpan(ctx, w.cfg.Durable, e)
		defer func() { tracing.End(span, err) }()
		err = w.call(ctx, Delivery{
			Event:          e,
			StreamSequence: meta.Sequence.Stream,
			Attempt:        meta.NumDelivered,
			StoreTime:      meta.Timestamp.UTC(),
		})
	}
	switch {
	case err == nil:
		w.count(name, outcomeOK)
		w.ack(ctx, msg)
	case IsPermanent(err):
		w.bury(ctx, msg, meta, name, err)
	case ctx.Err() != nil:
		w.settled(ctx, "give back", msg.Nak())
	default:
		w.count(name, outcomeRetry)
		w.retry(ctx, msg, meta, e.ID, err)
	}
}

// call runs the handler and turns a panic into an error.
func (w *worker) call(ctx context.Context, d Delivery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.HandlerTimeout)
	defer cancel()
	timer := prometheus.NewTimer(w.bus.metrics.seconds.WithLabelValues(w.cfg.Durable))
	defer timer.ObserveDuration()
	defer func() {
		if r := recover(); r != nil {
			w.log.ErrorContext(ctx, "Event handler panicked", slog.String("event_id", d.ID),
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("events: handler panicked: %v", r)
		}
	}()
	return w.cfg.Handler(ctx, d)
}

// ack waits for the server's confirmation: a plain ack to a consumer that was
// replaced meanwhile gets lost without a word.
func (w *worker) ack(ctx context.Context, msg jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	w.settled(ctx, "acknowledge", msg.DoubleAck(ctx))
}

func (w *worker) retry(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, id string, cause error) {
	attempts := int(min(meta.NumDelivered, 64))
	pause := backOff(attempts-1, w.cfg.MinBackOff, w.cfg.MaxBackOff)
	w.log.WarnContext(ctx, "Event handler failed, will try again", slog.String("event_id", id),
		slog.String("subject", msg.Subject()), slog.Uint64("attempt", meta.NumDelivered),
		slog.Duration("pause", pause), slog.Any("error", cause))
	w.settled(ctx, "postpone", msg.NakWithDelay(pause))
}

// bury moves a message to the dead-letter stream. Only when it is safe there is
// it taken out of the consumer; until then it comes again.
func (w *worker) bury(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, name string, cause error) {
	log := w.log.With(slog.String("event_id", msg.Headers().Get(headerID)),
		slog.String("subject", msg.Subject()), slog.Uint64("sequence", meta.Sequence.Stream))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := w.publishDeadLetter(ctx, msg, meta, cause); err != nil {
		log.ErrorContext(ctx, "Event could not be moved to the dead letters", slog.Any("error", err), slog.Any("cause", cause))
		w.count(name, outcomeRetry)
		w.settled(ctx, "postpone", msg.NakWithDelay(w.cfg.MinBackOff))
		return
	}
	log.ErrorContext(ctx, "Event moved to the dead letters", slog.Any("error", cause))
	w.count(name, outcomeDeadLetter)
	w.bus.metrics.deadLetters.WithLabelValues(w.cfg.Durable, name).Inc()
	w.settled(ctx, "terminate", msg.Term())
}

func (w *worker) publishDeadLetter(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, cause error) error {
	tokens := strings.Split(msg.Subject(), ".")
	dead := nats.NewMsg(strings.Join(append([]string{deadLetterRoot, w.cfg.Durable}, tokens[max(0, len(tokens)-2):]...), "."))
	dead.Data = msg.Data()
	for name, values := range msg.Headers() {
		// The server acts on its own headers.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") {
			dead.Header[name] = values
		}
	}
	sequence := strconv.FormatUint(meta.Sequence.Stream, 10)
	dead.Header.Set(headerReason, cleanHeaderValue(cause.Error()))
	dead.Header.Set(headerConsumer, w.cfg.Durable)
	dead.Header.Set(headerSequence, sequence)
	// The event's own id may be what is missing.
	id := w.cfg.Durable + "/" + sequence + "/" + strconv.FormatInt(meta.Timestamp.UnixNano(), 10)
	_, err := w.bus.js.PublishMsg(ctx, dead, jetstream.WithMsgID(id), jetstream.WithExpectStream(DeadLetterStream))
	if IsStreamMissing(err) {
		if err := w.bus.EnsureStreams(ctx); err != nil {
			return err
		}
		_, err = w.bus.js.PublishMsg(ctx, dead, jetstream.WithMsgID(id), jetstream.WithExpectStream(DeadLetterStream))
	}
	return err
}

func (w *worker) count(event, outcome string) {
	w.bus.metrics.handled.WithLabelValues(w.cfg.Durable, event, outcome).Inc()
}

// settled notes a last word that did not get through. The message then comes
// again, which costs time and nothing else.
func (w *worker) settled(ctx context.Context, what string, err error) {
	if err != nil {
		w.log.WarnContext(ctx, "Message not settled, it will come again", slog.String("intent", what), slog.Any("error", err))
	}
}

// giveSigns tells the server regularly that the held messages are being worked
// on, so that no other copy gets them.
func (w *worker) giveSigns(held *heldMessages) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(w.cfg.AckWait / 3)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				for _, msg := range held.all() {
					// It may just have been settled, or the connection be down:
					// neither can be helped here.
					_ = msg.InProgress()
				}
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// heldMessages are those taken over and not settled yet.
type heldMessages struct {
	mu       sync.Mutex
	messages map[jetstream.Msg]struct{}
}

func (h *heldMessages) add(msg jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages[msg] = struct{}{}
}

func (h *heldMessages) remove(msg jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.messages, msg)
}

func (h *heldMessages) all() []jetstream.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]jetstream.Msg, 0, len(h.messages))
	for msg := range h.messages {
		all = append(all, msg)
	}
	return all
}

// backOff doubles with each failure up to a limit, and is taken from the upper
// half of that, so that what failed together does not come back together.
func backOff(failures int, first, limit time.Duration) time.Duration {
	pause := limit
	if shifted := first << min(failures, 30); shifted > 0 && shifted < limit {
		pause = shifted
	}
	return pause/2 + rand.N(pause/2+1) //nolint:gosec // jitter is no secret
}
