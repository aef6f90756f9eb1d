package session

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// jumpLimit is how far the clock may jump between two looks at it. Beyond, nothing
// is swept for jumpHold: what a wrong clock ends is ended for good, while verdicts
// follow the clock back.
const (
	jumpLimit = time.Hour
	jumpHold  = 10 * time.Minute
	// claimLimit is how many due entries one copy takes at once.
	claimLimit = 32
	// sweepStride is how many buckets are swept at a time: while Redis works on one,
	// the next batch of another is decided.
	sweepStride = 4
	// giveBackTimeout bounds giving a claim back when the process ends.
	giveBackTimeout = 2 * time.Second
)

// sweeper ends the sessions that are over: to say so to clients, and to free
// memory. Nothing depends on when it comes.
type sweeper struct {
	store *store
	log   *slog.Logger
	now   func() time.Time
	owner string
	// caughtUp reports whether every event in the stream has been applied.
	caughtUp func(context.Context) (bool, error)
	swept    func(n int64)
	metrics  *metrics

	// steady is a clock that nobody sets.
	steady     func() time.Duration
	last       time.Time // when it looked at the clocks
	lastSteady time.Duration
	hold       time.Time // nothing is swept before
}

func (w *sweeper) run(ctx context.Context) error {
	tick := time.NewTicker(w.store.cfg.SweepEvery)
	defer tick.Stop()
	for {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.metrics.sweepFailures.Inc()
			w.log.WarnContext(ctx, "Sweep interrupted, trying again", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round sweeps what is due.
func (w *sweeper) round(ctx context.Context) error {
	now := w.now()
	if w.held(ctx, now) {
		return nil
	}
	due, err := w.store.dueBy(ctx, now, claimLimit)
	if err != nil {
		return err
	}
	w.metrics.sawDue(due, now)
	late := now.Add(-w.store.cfg.SweepDelay)
	caughtUp := false
	for _, e := range due {
		latest := now
		if _, isAgent := e.agentOf(); !isAgent {
			if e.due.After(late) {
				continue
			}
			// Enforcement may have been switched off, and the event not be here yet.
			if !caughtUp {
				if caughtUp, err = w.caughtUp(ctx); err != nil || !caughtUp {
					return err
				}
			}
			latest = late
		}
		claimed, err := w.store.claim(ctx, e, latest, now, w.owner)
		if err != nil {
			return err
		}
		if !claimed {
			continue
		}
		began := w.steady()
		if err := w.sweep(ctx, &e); err != nil {
			if ctx.Err() != nil {
				// Another copy, or this one after its restart, goes on at once.
				err = errors.Join(err, w.giveBack(context.WithoutCancel(ctx), e))
			}
			return err
		}
		w.metrics.sweepSeconds.Observe((w.steady() - began).Seconds())
	}
	return nil
}

func (w *sweeper) giveBack(ctx context.Context, e scheduled) error {
	ctx, cancel := context.WithTimeout(ctx, giveBackTimeout)
	defer cancel()
	return w.store.release(ctx, e, w.owner)
}

// held reports whether the clock jumped not long ago: forward would end sessions
// early, and a jump back puts in doubt what went before.
func (w *sweeper) held(ctx context.Context, now time.Time) bool {
	steady := w.steady()
	if !w.last.IsZero() {
		jump := now.Sub(w.last) - (steady - w.lastSteady)
		if jump.Abs() > jumpLimit {
			w.log.ErrorContext(ctx, "The clock jumped; nothing is swept for a while", slog.Duration("jump", jump))
			w.hold = now.Add(jumpHold)
		}
	}
	w.last, w.lastSteady = now, steady
	return now.Before(w.hold)
}

// sweep works on a claimed entry until it is done or lost.
func (w *sweeper) sweep(ctx context.Context, e *scheduled) error {
	if agent, ok := e.agentOf(); ok {
		return w.sweepAgent(ctx, *e, agent)
	}
	for ; e.cursor < buckets; e.cursor += sweepStride {
		var unconfirmed atomic.Bool
		group, ctx := errgroup.WithContext(ctx)
		for bucket := e.cursor; bucket < min(e.cursor+sweepStride, buckets); bucket++ {
			group.Go(func() error {
				confirmed, err := w.sweepBucket(ctx, *e, bucket)
				if !confirmed {
					unconfirmed.Store(true)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil || unconfirmed.Load() {
			return err
		}
	}
	_, err := w.store.progress(ctx, *e, 0, true, w.now(), w.owner)
	return err
}

// sweepAgent ends the sessions below the version. The fence was raised before, so
// none can come after.
func (w *sweeper) sweepAgent(ctx context.Context, e scheduled, agent agentRef) error {
	refs, err := w.store.sessionsOf(ctx, agent)
	if err != nil {
		return err
	}
	ended, err := w.store.end(ctx, ending{
		sessions: refs, cause: sessionv1.SessionsRevoked_REVOKED, below: e.version,
	}, w.now())
	if err != nil {
		return err
	}
	w.swept(ended)
	_, err = w.store.progress(ctx, e, ended, true, w.now(), w.owner)
	return err
}

// sweepBucket ends the account's sessions of one bucket that the rule says are
// over. It returns false when the entry is no longer ours, or the bucket does not
// know its revision (yet, or any more): then it is tried again later.
func (w *sweeper) sweepBucket(ctx context.Context, e scheduled, bucket int) (bool, error) {
	for _, exempt := range []bool{false, true} {
		for rank := int64(0); ; {
			b, err := w.readBatch(ctx, e.subject, bucket, exempt, rank)
			if err != nil {
				return false, err
			}
			if b.known == nil || len(b.ids) == 0 {
				break // no sessions
			}
			if b.known.policy.Revision != e.version {
				return false, nil
			}
			over := w.over(b)
			ended, err := w.store.end(ctx, ending{
				sessions: over, cause: sessionv1.SessionsRevoked_MFA_POLICY, known: b.knownRaw,
			}, w.now())
			if err != nil || ended == endKnownChanged {
				return false, err
			}
			w.swept(ended)
			ours, err := w.store.progress(ctx, e, ended, false, w.now(), w.owner)
			if err != nil || !ours {
				return false, err
			}
			rank += int64(len(b.ids) - len(over))
			if len(over) == 0 && !b.mayEnd(exempt, w.now()) {
				break
			}
		}
	}
	return true, nil
}

// sweepBatch is a piece of an index at AAL1 and the records it points to.
type sweepBatch struct {
	knownRaw string
	known    *known
	ids      []string
	refs     []sessionRef
	records  []*record
}

// mayEnd reports whether the rule ends any session of the class.
func (b sweepBatch) mayEnd(exempt bool, now time.Time) bool {
	return !b.known.judge(enforcement.Session{Exempt: exempt, AssuranceLevel: enforcement.AAL1}, time.Time{}, now).Alive
}

// over picks the sessions that are over by the rule.
func (w *sweeper) over(b sweepBatch) []sessionRef {
	var over []sessionRef
	now := w.now()
	for i, rec := range b.records {
		// An index entry without a record is only tidied up by ending it.
		if rec == nil {
			continue
		}
		if !b.known.judge(rec.facts(), rec.lowered, now).Alive {
			over = append(over, b.refs[i])
		}
	}
	return over
}

// readBatch reads the next sessions of an account in a bucket.
func (w *sweeper) readBatch(ctx context.Context, account string, bucket int, exempt bool, rank int64) (sweepBatch, error) {
	var b sweepBatch
	db, index := w.store.db, aal1Key(bucket, account, exempt)
	var knownCmd *redis.StringCmd
	var idsCmd *redis.StringSliceCmd
	// What is long over by itself has no record any more.
	stale := strconv.FormatInt(w.now().Add(-w.store.cfg.Retention).UnixMilli(), 10)
	_, err := db.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRemRangeByScore(ctx, index, "-inf", stale)
		knownCmd = p.Get(ctx, enforcementKey(bucket, account))
		idsCmd = p.ZRange(ctx, index, rank, rank+int64(w.store.cfg.SweepBatch)-1)
		return nil
	})
	if err != nil && !isNil(err) {
		return b, unavailable(err)
	}
	if b.ids, err = idsCmd.Result(); err != nil {
		return b, unavailable(err)
	}
	if b.knownRaw, err = knownCmd.Result(); isNil(err) || len(b.ids) == 0 {
		return b, nil
	} else if err != nil {
		return b, unavailable(err)
	}
	if b.known, err = decodeKnown(b.knownRaw); err != nil {
		return b, unavailable(err)
	}
	return b, w.readRecords(ctx, bucket, &b)
}

func (w *sweeper) readRecords(ctx context.Context, bucket int, b *sweepBatch) error {
	keys := make([]string, len(b.ids))
	b.refs, b.records = make([]sessionRef, len(b.ids)), make([]*record, len(b.ids))
	for i, id := range b.ids {
		copy(b.refs[i].id[:], id)
		keys[i] = sessionKey(bucket, b.refs[i].id)
	}
	values, err := mget(ctx, w.store.db, keys...)
	if err != nil {
		return err
	}
	for i, value := range values {
		if value == nil {
			continue
		}
		rec, _, err := decodeRecord(b.refs[i].id, *value)
		if err != nil {
			return unavailable(err)
		}
		if rec != nil {
			b.refs[i], b.records[i] = rec.ref, rec
		}
	}
	return nil
}
