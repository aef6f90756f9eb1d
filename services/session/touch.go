package session

import (
	"context"
	"log/slog"
	"time"
)

// touches writes when sessions were last used, off the verdict's path: a verdict
// neither waits for it nor fails with it.
type touches struct {
	store   *store
	queue   chan judged
	log     *slog.Logger
	now     func() time.Time
	dropped func()
}

// offer queues a write if the last one is long enough ago, and drops it if the
// queue is full.
func (t *touches) offer(j judged, now time.Time) {
	if now.Sub(j.record.lastSeen) < t.store.cfg.LastSeenEvery {
		return
	}
	select {
	case t.queue <- j:
	default:
		t.dropped()
	}
}

// touchBatch bounds how many writes go out in one round trip.
const touchBatch = 128

func (t *touches) run(ctx context.Context) error {
	for {
		var calls []call
		select {
		case <-ctx.Done():
			return nil
		case j := <-t.queue:
			calls = append(calls, t.store.touchCall(j, t.now()))
		}
		for more := true; more && len(calls) < touchBatch; {
			select {
			case j := <-t.queue:
				calls = append(calls, t.store.touchCall(j, t.now()))
			default:
				more = false
			}
		}
		// A record that changed meanwhile is left alone: the next use writes it.
		if _, err := t.store.runAll(ctx, t.store.scripts.rewrite, calls); err != nil && ctx.Err() == nil {
			t.log.WarnContext(ctx, "Last use of sessions not written", slog.Any("error", err))
		}
	}
}

func (s *store) touchCall(j judged, now time.Time) call {
	after := *j.record
	after.lastSeen = now
	return s.rewriteCall(j.raw, &after, now)
}
