package session

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/events"
)

const (
	eventSource = "twofold/session"
	// relayBatch is how many entries of a bucket's outbox are read at once.
	relayBatch = 64
	relayEvery = time.Second
	// flushTimeout bounds what is published when the process ends.
	flushTimeout = 5 * time.Second
)

// relay publishes what the scripts left in the outboxes. Any copy may publish any
// entry; the event's id is the same, so twice is once.
type relay struct {
	db   redis.UniversalClient
	bus  *events.Bus
	log  *slog.Logger
	wake chan struct{}
}

// notice says that some outbox has something.
func (r *relay) notice(int) {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends, and then what is left. What cannot be published
// stays in the store, for another copy or the next start.
func (r *relay) run(ctx context.Context) error {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "Revocations not published, trying again", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			r.finish(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
		case <-r.wake:
		}
	}
}

func (r *relay) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := r.sweep(ctx); err != nil {
		r.log.WarnContext(ctx, "Revocations are left in the outbox and wait for the next start", slog.Any("error", err))
	}
}

// sweep publishes what is in all outboxes.
func (r *relay) sweep(ctx context.Context) error {
	cmds, err := r.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for bucket := range buckets {
			p.XLen(ctx, outboxKey(bucket))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for bucket, cmd := range cmds {
		if cmd.(*redis.IntCmd).Val() == 0 {
			continue
		}
		if err := r.flush(ctx, bucket); err != nil {
			return err
		}
	}
	return nil
}

// flush publishes what is in one outbox and removes it from there.
func (r *relay) flush(ctx context.Context, bucket int) error {
	for {
		entries, err := r.db.XRangeN(ctx, outboxKey(bucket), "-", "+", relayBatch).Result()
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		for _, entry := range entries {
			if e, err := eventOf(bucket, entry); err != nil {
				r.log.ErrorContext(ctx, "An outbox entry cannot be read and is dropped", slog.Any("error", err))
			} else if _, _, err := r.bus.Publish(ctx, e); err != nil {
				return err
			}
			if err := r.db.XDel(ctx, outboxKey(bucket), entry.ID).Err(); err != nil {
				return err
			}
		}
	}
}

// eventOf makes the event of an entry of an outbox.
func eventOf(bucket int, entry redis.XMessage) (events.Event, error) {
	if text, ok := entry.Values[refusalField].(string); ok {
		return refusedEvent(bucket, entry.ID, text)
	}
	return revokedEvent(bucket, entry)
}

// revokedEvent makes the event of an entry of the end or issue script.
func revokedEvent(bucket int, entry redis.XMessage) (events.Event, error) {
	field := func(name string) string {
		text, _ := entry.Values[name].(string)
		return text
	}
	account, members := field("a"), field("s")
	cause, err1 := strconv.Atoi(field("c"))
	micros, err2 := strconv.ParseInt(field("t"), 10, 64)
	if err1 != nil || err2 != nil || !validAccount(account) || len(members)%memberSize != 0 || members == "" {
		return events.Event{}, fmt.Errorf("session: outbox entry %s of bucket %d", entry.ID, bucket)
	}
	origin, err := decodeOrigin(field("o"))
	if err != nil {
		return events.Event{}, fmt.Errorf("session: outbox entry %s of bucket %d: %w", entry.ID, bucket, err)
	}
	at := time.UnixMicro(micros).UTC()
	payload := &sessionv1.SessionsRevoked{
		Account: account, Cause: sessionv1.SessionsRevoked_Cause(cause), RevokeTime: timestamppb.New(at), //nolint:gosec // one digit
		Origin: origin,
	}
	for ; members != ""; members = members[memberSize:] {
		ref, _ := memberRef(account, members[:memberSize])
		payload.Sessions = append(payload.Sessions, ref.String())
	}
	return events.Event{
		// Redis gives no id twice but after losing everything, and then much later.
		ID:      "sessions-revoked-" + strconv.Itoa(bucket) + "-" + entry.ID,
		Source:  eventSource,
		Subject: "accounts/" + account,
		Account: account,
		Version: micros,
		Time:    at,
		Payload: payload,
	}, nil
}
