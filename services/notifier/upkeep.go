package notifier

import (
	"context"
	"log/slog"
	"time"
)

const (
	// removeBatch keeps each removing transaction short: on SQLite nobody else
	// writes meanwhile.
	removeBatch = 500
	removeEvery = 10 * time.Minute
	// measureEvery is how often the backlog is counted.
	measureEvery = 10 * time.Second
)

// upkeep removes old notices and measures the backlog.
type upkeep struct {
	store     *store
	retention time.Duration
	log       *slog.Logger
	metrics   *metrics
}

// remove removes notices that ended long ago, until ctx ends.
func (u *upkeep) remove(ctx context.Context) error {
	for ctx.Err() == nil {
		removed, err := u.store.removeOld(ctx, u.retention, removeBatch)
		if err != nil && ctx.Err() == nil {
			u.log.WarnContext(ctx, "Old notices could not be removed", slog.Any("error", err))
		}
		if err == nil && removed == removeBatch {
			continue // there may be more
		}
		waitFor(ctx, nil, removeEvery)
	}
	return nil
}

// measure keeps the gauges true, until ctx ends.
func (u *upkeep) measure(ctx context.Context) error {
	for ctx.Err() == nil {
		waiting, err := u.store.backlog(ctx)
		if err != nil && ctx.Err() == nil {
			u.log.WarnContext(ctx, "Backlog could not be counted", slog.Any("error", err))
		}
		if err == nil {
			u.metrics.waiting(waiting)
		}
		waitFor(ctx, nil, measureEvery)
	}
	return nil
}

// waitFor waits until woken, for at most d.
func waitFor(ctx context.Context, woken <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-timer.C:
	}
}
