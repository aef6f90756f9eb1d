package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	replayBatch = 256
	// A replay's consumer goes away by itself should nobody delete it.
	replayInactive = time.Minute
)

// Position is where a consumer stands.
type Position struct {
	// AckFloor is the stream sequence up to which everything wanted is done.
	// Events the consumer does not want leave it behind LastSeq.
	AckFloor uint64
	// Open counts the events wanted that are not done yet: not delivered, being
	// handled, or waiting for their next try.
	Open uint64
	// Stream is the stream as it was just before the consumer was asked.
	Stream StreamState
}

// CaughtUp says whether everything up to Stream.LastSeq is done.
func (p Position) CaughtUp() bool { return p.Open == 0 }

// ConsumerPosition asks the server where a durable consumer stands.
func (b *Bus) ConsumerPosition(ctx context.Context, durable string) (Position, error) {
	// The stream first: what is published in between is then counted as open.
	state, err := b.StreamState(ctx)
	if err != nil {
		return Position{}, err
	}
	consumer, err := b.js.Consumer(ctx, Stream, durable)
	if err != nil {
		return Position{}, fmt.Errorf("events: consumer %s: %w", durable, err)
	}
	info := consumer.CachedInfo()
	return Position{
		AckFloor: info.AckFloor.Stream,
		Open:     info.NumPending + uint64(max(info.NumAckPending, 0)),
		Stream:   state,
	}, nil
}

// Replay hands fn the wanted events between two sequences of the stream, both
// included, in their order, without regard to any durable consumer. What the
// stream no longer keeps is not there to be handed; compare StreamState. Broken
// messages are passed over: the durable consumer has put them where they belong.
// An error, of fn or of the server, ends the replay; begin again after the last
// sequence that fn took.
func (b *Bus) Replay(ctx context.Context, from, to uint64, wanted []proto.Message, fn Handler) error {
	subjects, err := filters(wanted)
	if err != nil {
		return err
	}
	state, err := b.StreamState(ctx)
	if err != nil {
		return err
	}
	from, to = max(from, state.FirstSeq, 1), min(to, state.LastSeq)
	if from > to {
		return nil
	}
	consumer, err := b.js.CreateConsumer(ctx, Stream, jetstream.ConsumerConfig{
		FilterSubjects:    subjects,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: replayInactive,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return fmt.Errorf("events: replay: %w", err)
	}
	defer b.dropReplay(ctx, consumer)
	// Whatever is up to `to` was in the stream before this count was taken.
	return b.replayAll(ctx, consumer, consumer.CachedInfo().NumPending, to, fn)
}

func (b *Bus) replayAll(ctx context.Context, consumer jetstream.Consumer, open, to uint64, fn Handler) error {
	var taken uint64
	for taken < open {
		size := int(min(open-taken, replayBatch))
		done := false
		err := b.pull(ctx, consumer, size, func(batch jetstream.MessageBatch) error {
			for msg := range batch.Messages() {
				meta, err := msg.Metadata()
				if err != nil {
					return fmt.Errorf("events: replay: %w", err)
				}
				// Nothing is acknowledged, so a message lost on the way would not
				// come again; the consumer's own numbers show the hole.
				if taken++; meta.Sequence.Consumer != taken {
					return errors.New("events: replay: a message was lost on the way")
				}
				if done = done || meta.Sequence.Stream > to; done {
					continue
				}
				if err := b.replayOne(ctx, msg, meta, fn); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("events: replay: %w", err)
		}
		if done {
			return nil
		}
	}
	return nil
}

func (b *Bus) replayOne(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, fn Handler) error {
	e, err := decode(msg.Subject(), msg.Headers(), msg.Data())
	if err != nil {
		b.log.WarnContext(ctx, "Replay passed over a broken message",
			slog.Uint64("sequence", meta.Sequence.Stream), slog.Any("error", err))
		return nil
	}
	ctx, span := b.startSpan(ctx, "replay", e)
	err = fn(ctx, Delivery{Event: e, StreamSequence: meta.Sequence.Stream, Attempt: 1, StoreTime: meta.Timestamp.UTC()})
	tracing.End(span, err)
	return err
}

func (b *Bus) dropReplay(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := b.js.DeleteConsumer(ctx, Stream, consumer.CachedInfo().Name); err != nil {
		b.log.WarnContext(ctx, "Replay consumer not deleted, it will expire", slog.Any("error", err))
	}
}
