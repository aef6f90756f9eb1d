package policy

import (
	"context"
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

// tellAll tells every enforcement, in pages. A page that a failing service or
// database stops is tried again, so that a million accounts need not all go well
// in one run; an enforcement that is refused is an error only at the end, so that
// it keeps none of the others away.
func (r *reconciler) tellAll(ctx context.Context) (int, error) {
	var after string
	told, refused := 0, 0
	pause := minReconcilePause
	for {
		page, pageRefused, err := r.tellPage(ctx, after)
		if err != nil {
			if ctx.Err() != nil {
				return told, ctx.Err()
			}
			r.failed(ctx, err)
			wait(ctx, pause)
			pause = min(2*pause, r.every)
			continue
		}
		pause = minReconcilePause
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

// tellPage tells the next page of enforcements. An error means that the page is
// to be tried again.
func (r *reconciler) tellPage(ctx context.Context, after string) (page []policy, refused int, err error) {
	page, err = r.store.enforced(ctx, after, reconcilePage)
	if err != nil {
		return nil, 0, err
	}
	var refusals atomic.Int32
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(reconcileAtOnce)
	for _, p := range page {
		group.Go(func() error {
			err := r.tell(groupCtx, p)
			if err != nil && isRefusal(err) {
				refusals.Add(1)
				r.log.ErrorContext(ctx, "Session service refused an enforcement",
					slog.String("account", p.account), slog.Int64("revision", p.Revision), slog.Any("error", err))
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	return page, int(refusals.Load()), nil
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
