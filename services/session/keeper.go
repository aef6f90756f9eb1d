package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twofold-auth/twofold/services/internal/events"
)

// How often, and how many times, the stream is asked without a pause at the start.
const (
	startEvery = 20 * time.Millisecond
	startTries = 50
	// startWait is how long policy's question waits for the first answer.
	startWait = 500 * time.Millisecond
)

// keeper compares the store with the event stream and repairs it: a bucket that is
// empty begins anew, a bucket that is older than it was gets the events replayed
// that it has lost. Until then nothing in it is believed.
type keeper struct {
	store *store
	bus   *events.Bus
	log   *slog.Logger
	now   func() time.Time
	// replay applies one event, as the consumer does.
	replay   events.Handler
	repaired func(how string)

	mu sync.Mutex // one repair at a time in this copy
}

// run looks after the store until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for tries := 0; ; tries++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := k.round(ctx)
		_, known := k.store.floor.get()
		// At first the consumer is only being made, in another goroutine.
		if starting := !known && tries < startTries; starting {
			timer.Reset(min(startEvery, k.store.cfg.KeepEvery))
			continue
		}
		if err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "Session store not confirmed, trying again", slog.Any("error", err))
		}
		timer.Reset(k.store.cfg.KeepEvery)
	}
}

// round asks the stream how far the store must have come, and repairs what has
// not. Without an answer the last one stands: a stream that is away takes no
// events. Repairing comes before raising, so that an event that only another copy
// has seen, or a broken one that nobody applied, does not stop verdicts.
func (k *keeper) round(ctx context.Context) error {
	reached, errStream := k.reached(ctx)
	if errStream != nil {
		at, known := k.store.floor.get()
		if !known {
			return errStream
		}
		reached = at
	}
	errRepair := k.repair(ctx, reached)
	k.store.floor.raise(reached)
	return errors.Join(errStream, errRepair)
}

// reached is what the durable consumer has seen to its end.
func (k *keeper) reached(ctx context.Context) (mark, error) {
	position, err := k.bus.ConsumerPosition(ctx, durable)
	if err != nil {
		return mark{}, err
	}
	return markOf(position), nil
}

func markOf(p events.Position) mark {
	return mark{epoch: p.Stream.Created.UnixMicro(), position: p.AckFloor}
}

// metaOf is the meta of a bucket as it was read.
type metaOf struct {
	bucket int
	raw    string // "" for none
	meta   meta
}

// metas reads the meta of every bucket and of the schedule.
func (s *store) metas(ctx context.Context) ([]metaOf, error) {
	keys := make([]string, scheduleBucket+1)
	for bucket := range keys {
		keys[bucket] = metaKey(bucket)
	}
	values, err := s.getAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]metaOf, len(keys))
	for bucket, value := range values {
		out[bucket].bucket = bucket
		if value == nil {
			continue
		}
		out[bucket].raw = *value
		if out[bucket].meta, err = decodeMeta(*value); err != nil {
			return nil, unavailable(err)
		}
	}
	return out, nil
}

// repair brings every bucket to a mark.
func (k *keeper) repair(ctx context.Context, to mark) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	metas, err := k.store.metas(ctx)
	if err != nil {
		return err
	}
	var empty, behind []metaOf
	for _, m := range metas {
		switch {
		case m.raw == "":
			empty = append(empty, m)
		case !m.meta.current(to):
			behind = append(behind, m)
		}
	}
	if len(empty) > 0 {
		level := slog.LevelWarn
		if len(empty) == len(metas) && to.position == 0 {
			level = slog.LevelInfo // of a suite in which nothing has happened yet, nothing was lost
		}
		k.log.Log(ctx, level, "Parts of the session store are empty and begin anew", slog.Int("parts", len(empty)))
		k.repaired(repairBegun)
		if err := k.write(ctx, empty, to, func(m *meta) { m.born = k.now() }); err != nil {
			return err
		}
	}
	if len(behind) == 0 {
		return nil
	}
	from := replayFrom(behind, to)
	k.log.WarnContext(ctx, "Parts of the session store are older than what was revoked; replaying",
		slog.Int("parts", len(behind)), slog.Uint64("from", from), slog.Uint64("to", to.position))
	if err := k.bus.Replay(ctx, from, to.position, consumed(), k.replay); err != nil {
		return err
	}
	k.repaired(repairReplayed)
	return k.write(ctx, behind, to, func(m *meta) { m.repaired = k.now() })
}

// replayFrom is the first event that any of the buckets may lack: of a stream that
// replaced another, the first there is.
func replayFrom(behind []metaOf, to mark) uint64 {
	from := to.position + 1
	for _, m := range behind {
		if m.meta.epoch < to.epoch {
			return 1
		}
		from = min(from, m.meta.position+1)
	}
	return from
}

// write stores new metas, each under a new generation. Where another copy was
// faster, its meta stays.
func (k *keeper) write(ctx context.Context, old []metaOf, at mark, change func(*meta)) error {
	calls := make([]call, len(old))
	for i, o := range old {
		m := o.meta
		m.epoch, m.position, m.generation = at.epoch, at.position, newGeneration()
		if o.raw == "" {
			m.repaired = time.UnixMilli(0)
		}
		change(&m)
		calls[i] = call{keys: []string{metaKey(o.bucket)}, args: []any{o.raw, m.encode()}}
	}
	_, err := k.store.runAll(ctx, k.store.scripts.swap, calls)
	return err
}

func newGeneration() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // crypto/rand ends the process rather than fail
	return hex.EncodeToString(b[:])
}

// generation changes whenever a part of the store began empty or came back older.
func (s *store) generation(ctx context.Context) (string, error) {
	at, ok := s.floor.get()
	if !ok {
		return "", errRebuilding()
	}
	metas, err := s.metas(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, m := range metas {
		if m.raw == "" || !m.meta.current(at) {
			return "", errRebuilding()
		}
		_, _ = h.Write([]byte(m.meta.generation + ";"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// advance records in every bucket that an event was applied. It fails with the
// buckets' lack of something before; then nothing may be acknowledged.
func (s *store) advance(ctx context.Context, from, to mark) error {
	calls := make([]call, scheduleBucket+1)
	for bucket := range calls {
		calls[bucket] = call{keys: []string{metaKey(bucket)}, args: []any{to.epoch, from.position, to.position}}
	}
	results, err := s.runAll(ctx, s.scripts.advance, calls)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r int64) bool { return r != advanceDone }) {
		return errNotCurrent
	}
	return nil
}
