package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

const (
	// maxClaim is how many notices a worker claims at a time: enough that questions
	// to auth are few, and few enough that a worker whose connection hangs holds up
	// little.
	maxClaim = 20
	// settleTimeout bounds one try to store what became of a mail, the last of which
	// is made when the process is ending; settlePause is between the tries.
	settleTimeout = 5 * time.Second
	settlePause   = 200 * time.Millisecond
	// waitPause is how long a notice rests whose turn depends on a mail that is
	// being sent.
	waitPause = 500 * time.Millisecond
	// troublePause is how long notices rest that auth or the database kept back.
	troublePause = 2 * time.Second
)

// courier hands notices to the mail server.
type courier struct {
	store     *store
	people    *people
	writer    *writer
	transport *smtppool.Pool
	patience  patience
	gate      *gate
	lease     time.Duration
	poll      time.Duration
	work      *bell // rings when notices are queued
	now       func() time.Time
	log       *slog.Logger
	metrics   *metrics
}

// run delivers until ctx ends. Each worker runs it, and uses one connection.
func (c *courier) run(ctx context.Context) error {
	for ctx.Err() == nil {
		rung := c.work.listen()
		in, err := c.round(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "Delivery interrupted, trying again", slog.Any("error", err))
			in = troublePause
		}
		if in > 0 {
			waitFor(ctx, rung, min(in, c.poll))
		}
	}
	return nil
}

// round delivers one batch, and says in how long to look again.
func (c *courier) round(ctx context.Context) (time.Duration, error) {
	in, waiting, err := c.store.nextDue(ctx)
	if err != nil {
		return 0, err
	}
	if !waiting {
		return c.poll, nil
	}
	if in > 0 {
		return in, nil
	}
	if err := c.gate.enter(ctx); err != nil {
		return 0, nil //nolint:nilerr // ending is what was asked for
	}
	owner, err := uuid.NewV7()
	if err != nil {
		return 0, fmt.Errorf("notifier: lease owner: %w", err)
	}
	batch, err := c.store.claim(ctx, owner.String(), c.lease)
	if err != nil {
		return 0, err
	}
	for _, n := range batch.lost {
		c.metrics.count(n.kind, n.state, 1)
		c.metrics.outcome(outcomeInterrupted)
	}
	if len(batch.notices) == 0 {
		return 10 * time.Millisecond, nil // other workers were faster
	}
	return 0, c.deliver(ctx, batch)
}

// deliver sends a batch, an account's notices after the other's, and gives back
// what was not sent.
func (c *courier) deliver(ctx context.Context, batch claim) error {
	var order []string
	accounts := map[string][]notice{}
	for _, n := range batch.notices {
		if accounts[n.account] == nil {
			order = append(order, n.account)
		}
		accounts[n.account] = append(accounts[n.account], n)
	}
	var failed []error
	for _, account := range order {
		left, pause, err := c.deliverAccount(ctx, batch, account, accounts[account])
		if len(left) > 0 {
			if ctx.Err() != nil {
				pause = 0 // another copy may have them at once
			}
			err = errors.Join(err, c.giveBack(ctx, batch.owner, left, pause))
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// deliverAccount sends notices of one account. It returns those that it did not
// come to, and how long they are to rest.
func (c *courier) deliverAccount(ctx context.Context, batch claim, account string, notices []notice) (left []notice, pause time.Duration, err error) {
	s, err := c.situation(ctx, account, notices)
	if err != nil {
		return notices, troublePause, err
	}
	for i, n := range notices {
		if i > 0 && !c.gate.isOpen() {
			return notices[i:], 0, nil
		}
		if err := c.deliverOne(ctx, batch, n, s); err != nil {
			return notices[i:], troublePause, err
		}
	}
	return nil, 0, nil
}

// situation is what a batch's notices of one account are decided on.
type situation struct {
	terms       terms
	accountName string
	agents      map[string]*authv1.Agent
	history     map[string][]told
}

func (c *courier) situation(ctx context.Context, account string, notices []notice) (s situation, err error) {
	// The terms first: the rest may be newer, and a newer revision is noticed when
	// a mail is started.
	if s.terms, err = c.store.terms(ctx, account); err != nil {
		return s, err
	}
	ids := make([]string, 0, 2*len(notices))
	ofPolicy := make([]string, 0, len(notices))
	for _, n := range notices {
		ids = append(ids, n.agent)
		who := []actor{n.facts.Actor}
		if isOfPolicy(n.kind) {
			ofPolicy = append(ofPolicy, n.agent)
			who = []actor{s.terms.changedBy, s.terms.enabledBy}
		}
		for _, a := range who {
			if id, ok := a.agentID(account); ok {
				ids = append(ids, id)
			}
		}
	}
	if s.agents, err = c.people.find(ctx, account, ids); err != nil {
		return s, err
	}
	if s.accountName, err = c.people.accountName(ctx, account); err != nil {
		return s, err
	}
	if len(ofPolicy) > 0 {
		s.history, err = c.store.history(ctx, account, ofPolicy)
	}
	return s, err
}

// deliverOne decides about a notice and sends it. An error is of the database or
// the program, or says that ctx ended; whatever the mail server does is an outcome.
func (c *courier) deliverOne(ctx context.Context, batch claim, n notice, s situation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	to := recipientOf(s.agents[n.agent])
	verdict, previous := decide(n, s.terms, to, s.history[n.agent])
	switch verdict {
	case suppress:
		return c.settle(ctx, batch.owner, n, settlement{state: stateSuppressed, lastError: n.lastError})
	case wait:
		return c.giveBack(ctx, batch.owner, []notice{n}, waitPause)
	case send:
	}
	n.email, n.displayName = addressee(n, to)
	link, err := c.people.link(ctx, n)
	if errors.Is(err, errLinkVoid) {
		return c.settle(ctx, batch.owner, n, settlement{state: stateSuppressed, lastError: n.lastError})
	}
	if err != nil {
		return err
	}
	message, err := c.writer.write(n, circumstances{
		terms: s.terms, accountName: s.accountName, previous: previous, link: link,
		adminName: cause(n, s.terms, previous).call(n.account, s.agents),
	})
	if err != nil {
		c.log.ErrorContext(ctx, "Notice cannot be written", slog.String("notice", n.id), slog.Any("error", err))
		unwritable := smtppool.Outcome{Result: smtppool.Rejected, Stage: smtppool.StageCompose, Err: err}
		return c.settle(ctx, batch.owner, n, c.patience.after(n, unwritable, batch.time))
	}
	conn, err := c.transport.Acquire(ctx)
	if err != nil {
		return c.unreachable(ctx, batch.owner, n, err)
	}
	defer conn.Release()
	held, err := c.store.start(ctx, batch.owner, n, c.lease)
	if err != nil {
		return err
	}
	if !held {
		// The lease ran out while waiting for the connection, or the policy changed:
		// whoever claims it next decides again.
		return c.giveBack(ctx, batch.owner, []notice{n}, 0)
	}
	return c.attempt(ctx, batch, n, func(ctx context.Context) smtppool.Outcome {
		if n.ambiguousAttempts > 0 {
			return conn.SendAgain(ctx, message)
		}
		return conn.Send(ctx, message)
	})
}

// unreachable puts a notice off because there is no connection. That is not the
// notice's fault and counts as no attempt at it.
func (c *courier) unreachable(ctx context.Context, owner string, n notice, err error) error {
	var failed *smtppool.ConnectError
	if ctx.Err() != nil || !errors.As(err, &failed) {
		return c.giveBack(ctx, owner, []notice{n}, 0)
	}
	wasOpen := c.gate.isOpen()
	pause := c.gate.failed()
	c.metrics.outcome(outcomeUnreachable)
	if wasOpen {
		c.log.WarnContext(ctx, "Mail server does not work, mails wait", slog.String("server", c.transport.Server()), slog.Any("error", err))
	}
	return c.settle(ctx, owner, n, settlement{state: stateRetrying, lastError: explainConnect(err), retryIn: pause})
}

// giveBack gives notices back, even when the process is ending.
func (c *courier) giveBack(ctx context.Context, owner string, notices []notice, pause time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return c.store.release(ctx, owner, notices, pause)
}

// settle stores what became of a notice, even when the process is ending. What is
// not stored never happened, and a mail that is out would be sent once more: a
// database that is away or overloaded is asked until it answers.
func (c *courier) settle(ctx context.Context, owner string, n notice, o settlement) error {
	for {
		held, err := c.settleOnce(ctx, owner, n, o)
		switch {
		case err == nil && held:
			c.metrics.count(n.kind, o.state, 1)
			return nil
		case err == nil:
			// A newer policy suppresses what waits, and what we are about to suppress too.
			level := slog.LevelWarn
			if o.state == stateSuppressed {
				level = slog.LevelDebug
			}
			c.log.Log(ctx, level, "Notice was lost to another copy", slog.String("notice", n.id), slog.String("state", string(o.state)))
			return nil
		case ctx.Err() != nil:
			return err
		}
		c.log.WarnContext(ctx, "What became of a notice could not be stored, trying again",
			slog.String("notice", n.id), slog.String("state", string(o.state)), slog.Any("error", err))
		waitFor(ctx, nil, settlePause)
	}
}

func (c *courier) settleOnce(ctx context.Context, owner string, n notice, o settlement) (held bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return c.store.settle(ctx, owner, n.id, o)
}
