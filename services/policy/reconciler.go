package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

const (
	defaultReconcileEvery = 5 * time.Second
	minReconcilePause     = 100 * time.Millisecond

	reconcilePage = 200
	// reconcileAtOnce keeps a new store busy without crowding out the sign-ins
	// that it has to serve meanwhile.
	reconcileAtOnce = 8
)

// reconciler tells the session service every enforcement again when its store
// began anew. A store that lost its data has lost the enforcements with it; their
// events are long acknowledged and may be too old to be replayed.
//
// Every copy of this service does so by itself, and at its own start: what has
// been told before changes nothing.
type reconciler struct {
	store    *store
	sessions sessionv1.SessionServiceClient
	every    time.Duration
	log      *slog.Logger
	metrics  *metrics
}

func newReconciler(
	st *store, sessions sessionv1.SessionServiceClient, every time.Duration, log *slog.Logger, m *metrics,
) *reconciler {
	if every <= 0 {
		every = defaultReconcileEvery
	}
	return &reconciler{store: st, sessions: sessions, every: every, log: log, metrics: m}
}

// run compares the store's generation with the last one that was told in full,
// until ctx ends.
func (r *reconciler) run(ctx context.Context) error {
	var told string
	var known bool
	for ctx.Err() == nil {
		// Read before telling: a store that begins anew meanwhile then differs
		// from what is remembered, and is told again.
		generation, err := r.generation(ctx)
		if err == nil && (!known || generation != told) {
			var count int
			if count, err = r.tellAll(ctx); err == nil {
				told, known = generation, true
				r.metrics.reconciled.Inc()
				r.log.InfoContext(ctx, "Session store told every enforcement",
					slog.String("generation", generation), slog.Int("enforcements", count))
			}
		}
		r.failed(ctx, err)
		wait(ctx, r.every)
	}
	return nil
}

func (r *reconciler) generation(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	state, err := r.sessions.GetStoreState(ctx, &sessionv1.GetStoreStateRequest{})
	if err != nil {
		return "", fmt.Errorf("get store state: %w", err)
	}
	return state.GetGeneration(), nil
}

// tellAll tells every enforcement, in pages. What a failing service or database
// stops is tried again until it is done, so that a million accounts need not all
// go well in one run; an enforcement that is refused is an error only at the end,
// so that it keeps none of the others away.
func (r *reconciler) tellAll(ctx context.Context) (int, error) {
	var after string
	told, refused := 0, 0
	for {
		page, err := r.page(ctx, after)
		if err != nil {
			return told, err
		}
		pageRefused, err := r.tellPage(ctx, page)
		if err != nil {
			return told, err
		}
		told, refused = told+len(page)-pageRefused, refused+pageRefused
		if len(page) < reconcilePage {
			break
		}
		after = page[len(page)-1].account
	}
	if refused > 0 {
		return told, fmt.Errorf("the session service refused %d enforcements", refused)
	}
	return told, nil
}

// page reads the next page of enforcements, for as long as it takes. An error
// means that ctx ended.
func (r *reconciler) page(ctx context.Context, after string) ([]policy, error) {
	for pause := minReconcilePause; ; pause = min(2*pause, r.every) {
		page, err := r.store.enforced(ctx, after, reconcilePage)
		if err == nil || ctx.Err() != nil {
			return page, err
		}
		r.failed(ctx, err)
		wait(ctx, pause)
	}
}

// tellPage tells a page of enforcements, for as long as it takes, and says how
// many of them were refused. An error means that ctx ended.
func (r *reconciler) tellPage(ctx context.Context, page []policy) (refused int, err error) {
	pause := minReconcilePause
	for {
		results := r.tellEach(ctx, page)
		var left []policy
		for i, err := range results {
			switch {
			case err == nil:
			case isRefusal(err):
				refused++
				r.log.ErrorContext(ctx, "Session service refused an enforcement", slog.String("account", page[i].account),
					slog.Int64("revision", page[i].Revision), slog.Any("error", err))
			default:
				left = append(left, page[i])
			}
		}
		if len(left) == 0 {
			return refused, nil
		}
		if ctx.Err() != nil {
			return refused, ctx.Err()
		}
		r.failed(ctx, errors.Join(results...))
		if len(left) < len(page) {
			pause = minReconcilePause // it gets on
		}
		wait(ctx, pause)
		pause, page = min(2*pause, r.every), left
	}
}

// errNotTried stands for what was not told because another one could not be.
var errNotTried = errors.New("not tried")

// tellEach tells some enforcements, several at once, and returns what became of
// each. It stops soon after one of them fails: the next would fail too.
func (r *reconciler) tellEach(ctx context.Context, page []policy) []error {
	results := make([]error, len(page))
	var failing atomic.Bool
	var group errgroup.Group
	group.SetLimit(reconcileAtOnce)
	for i, p := range page {
		group.Go(func() error {
			if failing.Load() {
				results[i] = errNotTried
				return nil
			}
			results[i] = r.tell(ctx, p)
			if results[i] != nil && !isRefusal(results[i]) {
				failing.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait() // results has them
	return results
}

func (r *reconciler) tell(ctx context.Context, p policy) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := r.sessions.ApplyEnforcement(ctx, &sessionv1.ApplyEnforcementRequest{
		Enforcement: toEnforcement(p.account, toProto(p)),
	})
	return err
}

// isRefusal says whether the service answered that it does not want this one,
// and not that it could not do its work.
func isRefusal(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.OutOfRange, codes.Internal:
		return true
	}
	return false
}

func (r *reconciler) failed(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.metrics.reconcileError.Inc()
	r.log.WarnContext(ctx, "Session service not told, trying again", slog.Any("error", err))
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
