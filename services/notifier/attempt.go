package notifier

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

var errLeaseLost = errors.New("notifier: the lease on the notice was lost")

// attempt sends one mail that is stored as SENDING, and stores what became of it.
// The lease is kept until that is stored: whoever got it before would take the mail
// for one that may not have arrived, and send it again.
func (c *courier) attempt(ctx context.Context, batch claim, n notice, send func(context.Context) smtppool.Outcome) error {
	sending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leasing, release := context.WithCancel(context.WithoutCancel(ctx))
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		c.keepLease(leasing, batch.owner, n.id, cancel)
	}()
	defer func() { release(); <-renewing }()
	began := c.now()
	out := send(sending)
	lost := errors.Is(context.Cause(sending), errLeaseLost)
	c.metrics.seconds.Observe(c.now().Sub(began).Seconds())
	c.metrics.outcome(out.Result.String())
	return c.settle(ctx, batch.owner, n, c.judge(ctx, batch, n, out, lost))
}

// judge says what becomes of a notice after an attempt.
func (c *courier) judge(ctx context.Context, batch claim, n notice, out smtppool.Outcome, lost bool) settlement {
	switch {
	case out.Result == smtppool.Retryable && (ctx.Err() != nil || lost):
		// We hung up ourselves before the mail was complete.
		return settlement{state: before(n), lastError: n.lastError}
	case isAboutServer(out):
		pause := c.gate.failed()
		c.log.WarnContext(ctx, "Mail server takes no mails from us, mails wait",
			slog.String("server", c.transport.Server()), slog.Any("error", out.Err))
		return settlement{state: stateRetrying, lastError: explain(out), retryIn: pause}
	}
	c.gate.worked()
	o := c.patience.after(n, out, batch.time)
	if o.state != stateSent {
		c.log.InfoContext(ctx, "Notice not delivered", slog.String("notice", n.id), slog.String("account", n.account),
			slog.String("result", out.Result.String()), slog.String("stage", string(out.Stage)), slog.Int("code", out.Code),
			slog.String("state", string(o.state)))
	}
	return o
}

// before is the state a notice had before its attempt began.
func before(n notice) state {
	if n.state == stateQueued {
		return stateQueued
	}
	return stateRetrying
}

// keepLease renews the lease of a mail that takes long, until ctx ends. A lease
// that is lost ends the attempt: somebody else takes it for one that died.
func (c *courier) keepLease(ctx context.Context, owner, id string, lost context.CancelCauseFunc) {
	ticker := time.NewTicker(c.lease / 4)
	defer ticker.Stop()
	renewed := c.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asking, cancel := context.WithTimeout(ctx, c.lease/4)
		held, err := c.store.renew(asking, owner, id, c.lease)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && held:
			renewed = c.now()
		case err == nil, c.now().Sub(renewed) > c.lease*3/4: // several tries failed
			lost(errLeaseLost)
			return
		}
	}
}
