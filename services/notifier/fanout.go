package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

const (
	// pageSize is how many agents a fan-out holds in memory at a time.
	pageSize = 1000
	// fanOutWorkers lets a small account's fan-out pass a large one's.
	fanOutWorkers = 2
	// fanOutPause is how long a fan-out rests after a failure.
	fanOutPause = time.Second
)

// fanner makes one event about an account into notices for its agents.
type fanner struct {
	store   *store
	people  *people
	lease   time.Duration
	poll    time.Duration
	work    *bell // rings when a fan-out begins
	notices *bell // rung when notices are queued
	log     *slog.Logger
	metrics *metrics
}

// run works on fan-outs until ctx ends.
func (f *fanner) run(ctx context.Context) error {
	for ctx.Err() == nil {
		rung := f.work.listen()
		worked, err := f.next(ctx)
		if err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "Fan-out interrupted, trying again", slog.Any("error", err))
		}
		if !worked || err != nil {
			waitFor(ctx, rung, f.poll)
		}
	}
	return nil
}

// next works on a fan-out to its end, if one is due.
func (f *fanner) next(ctx context.Context) (worked bool, err error) {
	due, err := f.store.fanOutDue(ctx)
	if err != nil || !due {
		return false, err
	}
	owner, err := uuid.NewV7()
	if err != nil {
		return false, fmt.Errorf("notifier: lease owner: %w", err)
	}
	task, ok, err := f.store.claimFanOut(ctx, owner.String(), f.lease)
	if err != nil || !ok {
		return false, err
	}
	if err := f.walk(ctx, task); err != nil {
		// Somebody else may go on at once when this process is ending.
		pause := fanOutPause
		if ctx.Err() != nil {
			pause = 0
		}
		giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
		return true, errors.Join(err, f.store.releaseFanOut(giving, task, pause))
	}
	return true, nil
}

// walk goes on with a fan-out from its cursor until nobody is left, it is
// superseded, or its lease is lost.
func (f *fanner) walk(ctx context.Context, task fanOut) error {
	if err := f.suppressOlder(ctx, task); err != nil {
		return err
	}
	for {
		t, err := f.store.terms(ctx, task.account)
		if err != nil {
			return err
		}
		if t.revision != task.revision {
			return nil // a newer one has ended it
		}
		page, last, seen, err := f.page(ctx, task, t)
		if err != nil {
			return err
		}
		if seen == 0 {
			done, err := f.store.completeFanOut(ctx, task)
			if done {
				f.log.InfoContext(ctx, "Fan-out complete", slog.String("account", task.account),
					slog.Int64("revision", task.revision), slog.String("kind", string(task.kind)))
			}
			return err
		}
		queued, held, err := f.store.savePage(ctx, task, last, seen, page, f.lease)
		if err != nil || !held {
			return err
		}
		if queued > 0 {
			f.metrics.count(task.kind, stateQueued, queued)
			f.notices.ring()
		}
		task.lastAgent = last
	}
}

// suppressOlder ends what older revisions left waiting. It keeps lists and counts
// true; that such a notice is not sent does not depend on it.
func (f *fanner) suppressOlder(ctx context.Context, task fanOut) error {
	for {
		suppressed, err := f.store.suppressOlder(ctx, task.account, task.revision, pageSize)
		if err != nil {
			return err
		}
		f.metrics.count(task.kind, stateSuppressed, suppressed)
		if suppressed < pageSize {
			return nil
		}
	}
}

// page returns the notices of the next agents, the id of the last agent seen, and
// how many were seen.
func (f *fanner) page(ctx context.Context, task fanOut, t terms) (notices []notice, last string, seen int, err error) {
	if task.kind == mail.KindEnforcementLifted {
		notices, err = f.store.lifted(ctx, task, pageSize)
		if err != nil || len(notices) == 0 {
			return nil, "", 0, err
		}
		return notices, notices[len(notices)-1].agent, len(notices), nil
	}
	found, err := f.people.toNotify(ctx, t, task.lastAgent, pageSize)
	if err != nil || len(found) == 0 {
		return nil, "", 0, err
	}
	for _, r := range found {
		name, err := resource.ParseAgent("agent", r.GetAgent())
		if err != nil || name.Account != task.account || name.Agent <= last {
			return nil, "", 0, fmt.Errorf("notifier: auth listed %q for account %q after %q", r.GetAgent(), task.account, last)
		}
		last = name.Agent
		notices = append(notices, notice{
			account: task.account, kind: task.kind, eventID: task.eventID, agent: name.Agent,
			email: r.GetEmail(), displayName: r.GetDisplayName(),
			policyRevision: task.revision, enforceTime: t.enforceTime, revokeTime: t.revokeTime,
		})
	}
	notices, err = f.withoutTold(ctx, task, t, notices, last)
	return notices, last, len(found), err
}

// withoutTold leaves out the agents who know a deadline of this enforcement that
// is no later than the one in force.
func (f *fanner) withoutTold(ctx context.Context, task fanOut, t terms, notices []notice, last string) ([]notice, error) {
	earliest, err := f.store.earliestTold(ctx, task, task.lastAgent, last)
	if err != nil {
		return nil, err
	}
	untold := notices[:0]
	for _, n := range notices {
		if known, ok := earliest[n.agent]; !ok || known.After(t.revokeTime) {
			untold = append(untold, n)
		}
	}
	return untold, nil
}
