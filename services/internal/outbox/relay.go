package outbox

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	batchSize = 100
	chunk     = 1000

	// pollEvery finds what another copy committed and could not publish.
	pollEvery      = time.Second
	reconcileEvery = 10 * time.Second
	cleanUpEvery   = time.Hour

	publishTimeout = 3 * time.Second
	passTimeout    = 30 * time.Second
	// flushTimeout bounds what is published when the process ends.
	flushTimeout = 5 * time.Second
	flushPause   = 100 * time.Millisecond

	// A reconciliation walks back from the newest published row until it has
	// found this many in a row where they belong: many where the server may just
	// have lost its latest messages, few as a routine. A lost tail is one piece,
	// so anything published over it is all the walk has to get past.
	deepWalk    = 256
	routineWalk = 16

	// keepRows is as long as the stream keeps events.
	keepRows = events.MaxAge
	// republishAge leaves a day between the clocks of the database and of the
	// stream, so that an event that expired is not taken for a lost one.
	republishAge = keepRows - 24*time.Hour
)

// Relay publishes what Append wrote.
type Relay struct {
	db      *sqldb.DB
	bus     *events.Bus
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}

	// The rest belongs to the goroutine of Run.

	// distrust is set until the stream has been looked at since the connection
	// was made: nothing is published before, for it would cover what is missing.
	distrust bool
	failing  bool
	// reported are the unpublishable rows that the log has been told of.
	reported map[string]struct{}
}

// New makes a relay for the outbox table of db.
func New(db *sqldb.DB, bus *events.Bus, log *slog.Logger, reg prometheus.Registerer) *Relay {
	return &Relay{
		db: db, bus: bus, metrics: newMetrics(reg, db.Schema()), wake: make(chan struct{}, 1),
		log: log.With(slog.String("outbox", db.Schema())), reported: make(map[string]struct{}),
	}
}

// Wake tells the relay that something was committed. It never blocks, and may be
// called without a need.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends, and then what is left. It returns nil: no state of
// the database or of NATS makes it give up before, and what it cannot publish at the
// end waits in the database for the next start.
func (r *Relay) Run(ctx context.Context) error {
	reconnects, stop := r.bus.Reconnects()
	defer stop()
	poll, reconcile, cleanUp := time.NewTicker(pollEvery), time.NewTicker(reconcileEvery), time.NewTicker(cleanUpEvery)
	defer poll.Stop()
	defer reconcile.Stop()
	defer cleanUp.Stop()

	r.distrust = true
	r.attempt(ctx, r.publishAll)
	r.attempt(ctx, r.cleanUp)
	for {
		select {
		case <-ctx.Done():
			r.flush(context.WithoutCancel(ctx))
			return nil
		case <-reconnects:
			r.distrust = true
			r.attempt(ctx, r.publishAll)
		case <-r.wake:
			r.attempt(ctx, r.publishAll)
		case <-poll.C:
			r.attempt(ctx, r.publishAll)
			r.observe(ctx)
		case <-reconcile.C:
			r.attempt(ctx, func(ctx context.Context) error { return r.reconcile(ctx, routineWalk) })
		case <-cleanUp.C:
			r.attempt(ctx, r.cleanUp)
		}
	}
}

// flush publishes what is left, unless NATS is away.
func (r *Relay) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for {
		err := r.publishAll(ctx)
		if err == nil {
			return
		}
		pause := time.NewTimer(flushPause)
		defer pause.Stop()
		if !r.bus.Connected() || ctx.Err() != nil {
			r.log.WarnContext(ctx, "Events are left in the outbox and wait for the next start", slog.Any("error", err))
			return
		}
		<-pause.C
	}
}

// attempt runs a step and reports the first of a series of failures, and its end.
func (r *Relay) attempt(ctx context.Context, step func(context.Context) error) {
	stepCtx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	err := step(stepCtx)
	if err != nil && ctx.Err() == nil {
		r.metrics.failures.Inc()
	}
	switch {
	case ctx.Err() != nil:
	case err != nil && !r.failing:
		r.failing = true
		r.log.WarnContext(ctx, "Outbox relay interrupted, events wait in the database", slog.Any("error", err))
	case err != nil:
		r.log.DebugContext(ctx, "Outbox relay still interrupted", slog.Any("error", err))
	case r.failing:
		r.failing = false
		r.log.InfoContext(ctx, "Outbox relay works again")
	}
}

var errDisconnected = errors.New("outbox: no connection to NATS")

// publishAll publishes until nothing waits.
func (r *Relay) publishAll(ctx context.Context) error {
	if !r.bus.Connected() {
		// Rather than waiting in a publish and missing the reconnection.
		return errDisconnected
	}
	if r.distrust {
		if err := r.reconcile(ctx, deepWalk); err != nil {
			return err
		}
	}
	// Rows that can never be published stay at the front; the others must get
	// past them.
	stuck := 0
	for {
		rows, err := pending(ctx, r.db, batchSize, stuck)
		if err != nil {
			return err
		}
		published, err := r.publish(ctx, rows)
		if err != nil {
			return err
		}
		if len(rows) < batchSize {
			return nil
		}
		stuck += len(rows) - published
	}
}

// publish publishes rows in their order up to the first failure, and marks what
// the stream has taken.
func (r *Relay) publish(ctx context.Context, rows []row) (published int, err error) {
	places := make([]place, 0, len(rows))
	for _, row := range rows {
		var p place
		p, err = r.publishOne(ctx, row)
		if events.IsPermanent(err) {
			r.report(ctx, row, err)
			err = nil
			continue
		}
		if err != nil {
			break
		}
		places = append(places, p)
	}
	if len(places) == 0 {
		return 0, err
	}
	if markErr := markPublished(ctx, r.db, places); markErr != nil {
		return 0, errors.Join(err, markErr)
	}
	r.metrics.published.Add(float64(len(places)))
	return len(places), err
}

// report tells once of a row that cannot be published: written by a newer
// version of the service, or by hand. It stays, visible as the oldest pending.
func (r *Relay) report(ctx context.Context, row row, err error) {
	if _, told := r.reported[row.id]; told {
		return
	}
	r.reported[row.id] = struct{}{}
	r.metrics.stuck.Inc()
	r.log.ErrorContext(ctx, "Outbox row cannot be published", slog.String("event_id", row.id), slog.Any("error", err))
}

func (r *Relay) publishOne(ctx context.Context, row row) (place, error) {
	if row.broken != nil {
		return place{}, events.Permanent(row.broken)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	seq, created, err := r.bus.Publish(ctx, row.event)
	if err != nil {
		if events.IsStreamMissing(err) {
			r.distrust = true // reconcile makes the stream
		}
		return place{}, err
	}
	return place{id: row.id, seq: seq, created: created}, nil
}

// reconcile compares the table with the stream and has published again what the
// stream has lost.
func (r *Relay) reconcile(ctx context.Context, walk int) error {
	if r.distrust {
		walk = max(walk, deepWalk)
		if err := r.bus.EnsureStreams(ctx); err != nil {
			return err
		}
	}
	state, err := r.bus.StreamState(ctx)
	if err != nil {
		r.distrust = r.distrust || events.IsStreamMissing(err)
		return err
	}
	now, err := r.db.Now(ctx)
	if err != nil {
		return err
	}
	since := now.Add(-republishAge)
	replaced, err := markReplaced(ctx, r.db, state.Created, since)
	if err != nil {
		return err
	}
	missing, err := r.walkBack(ctx, state, since, walk)
	if err != nil {
		return err
	}
	r.distrust = false
	if lost := replaced + missing; lost > 0 {
		r.metrics.republished.Add(float64(lost))
		r.log.WarnContext(ctx, "Stream has lost events, publishing them again",
			slog.Int64("of_replaced_stream", replaced), slog.Int64("missing", missing))
		r.Wake()
	}
	return nil
}

// walkBack looks the newest published rows up in the stream, until it has found
// `enough` of them one after the other, and marks those that are missing.
func (r *Relay) walkBack(ctx context.Context, state events.StreamState, since time.Time, enough int) (missing int64, err error) {
	below := uint64(math.MaxInt64)
	for found := 0; found < enough; {
		places, err := newest(ctx, r.db, state.Created, since, below, enough)
		if err != nil || len(places) == 0 {
			return missing, err
		}
		var lost []place
		for _, p := range places {
			there, err := r.inStream(ctx, state, p)
			if err != nil {
				return missing, err
			}
			if there {
				found++
			} else {
				found = 0
				lost = append(lost, p)
			}
		}
		if err := markMissing(ctx, r.db, lost); err != nil {
			return missing, err
		}
		missing += int64(len(lost))
		below = places[len(places)-1].seq
	}
	return missing, nil
}

func (r *Relay) inStream(ctx context.Context, state events.StreamState, p place) (bool, error) {
	// Another copy may have published it after the state was read, so a sequence
	// beyond the end is looked up too.
	if p.seq < state.FirstSeq {
		return false, nil
	}
	id, err := r.bus.EventAt(ctx, p.seq)
	if errors.Is(err, events.ErrNotFound) {
		return false, nil
	}
	return id == p.id, err
}

func (r *Relay) cleanUp(ctx context.Context) error {
	now, err := r.db.Now(ctx)
	if err != nil {
		return err
	}
	return deleteOld(ctx, r.db, now.Add(-keepRows))
}

// observe sets the gauges. A database that cannot be read is reported by the
// steps that need it.
func (r *Relay) observe(ctx context.Context) {
	count, age, err := backlog(ctx, r.db)
	if err != nil {
		return
	}
	r.metrics.pending.Set(float64(count))
	r.metrics.oldest.Set(age.Seconds())
}
