package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/events"
)

// durable names the consumer. Its position, which the event stream keeps, is the
// memory outside of the store of what the store must hold.
const durable = "session"

// consumed are the events that end sessions or decide about them, our own among
// them: they bring back what a store that came back older has lost.
func consumed() []proto.Message {
	return []proto.Message{
		&policyv1.EnforcementEnabled{}, &policyv1.EnforcementUpdated{}, &policyv1.EnforcementDisabled{},
		&authv1.MFAEnrolled{}, &authv1.MFAReset{}, &authv1.FactorRemoved{},
		&authv1.PasswordChanged{}, &authv1.RoleChanged{}, &authv1.AgentDeactivated{},
		&sessionv1.SessionsRevoked{},
	}
}

// consumer applies events in their strict order and keeps the store's place among
// them.
type consumer struct {
	store  *store
	keeper *keeper
	bus    *events.Bus
	log    *slog.Logger
	now    func() time.Time
}

func (c *consumer) run(ctx context.Context) error {
	return c.bus.Consume(ctx, events.ConsumerConfig{
		Durable: durable,
		Events:  consumed(),
		Handler: c.handle,
		// One at a time over all copies: a position means that everything before
		// it is in the store.
		Workers: 1, MaxAckPending: 1,
		MaxBackOff: 5 * time.Second,
	})
}

// handle applies an event and moves the store's position on. It is acknowledged
// only after that, so the consumer's position never runs ahead of the store's.
func (c *consumer) handle(ctx context.Context, d events.Delivery) error {
	position, err := c.bus.ConsumerPosition(ctx, durable)
	if err != nil {
		return err
	}
	before := markOf(position)
	if d.StreamSequence <= before.position {
		return nil
	}
	refused := c.apply(ctx, d)
	if refused != nil && !events.IsPermanent(refused) {
		return refused
	}
	after := mark{epoch: before.epoch, position: d.StreamSequence}
	if err := c.store.advance(ctx, before, after); errors.Is(err, errNotCurrent) {
		// The store is older than it was. What it lacks comes first.
		if err := c.keeper.repair(ctx, before); err != nil {
			return err
		}
		if refused = c.apply(ctx, d); refused != nil && !events.IsPermanent(refused) {
			return refused
		}
		if err := c.store.advance(ctx, before, after); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	c.store.floor.raise(after)
	return refused
}

// replay applies an event again. What was refused then is passed over.
func (c *consumer) replay(ctx context.Context, d events.Delivery) error {
	if err := c.apply(ctx, d); !events.IsPermanent(err) {
		return err
	}
	return nil
}

// apply does what an event wants. Everything is fenced by revision or version, so
// that repeating an event, however late, changes nothing newer.
func (c *consumer) apply(ctx context.Context, d events.Delivery) error {
	switch e := d.Payload.(type) {
	case *policyv1.EnforcementEnabled:
		return c.applyPolicy(ctx, e.GetAccount(), e.GetPolicy())
	case *policyv1.EnforcementUpdated:
		return c.applyPolicy(ctx, e.GetAccount(), e.GetPolicy())
	case *policyv1.EnforcementDisabled:
		return c.applyPolicy(ctx, e.GetAccount(), e.GetPolicy())
	case *authv1.MFAEnrolled:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), e.GetKeepSession(), time.Time{})
	case *authv1.MFAReset:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), "", time.Time{})
	case *authv1.FactorRemoved:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), e.GetKeepSession(), loweredBy(e))
	case *authv1.PasswordChanged:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), e.GetKeepSession(), time.Time{})
	case *authv1.RoleChanged:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), "", time.Time{})
	case *authv1.AgentDeactivated:
		return c.applyVersion(ctx, e.GetAgent(), e.GetAgentVersion(), "", time.Time{})
	case *sessionv1.SessionsRevoked:
		return c.applyRevoked(ctx, e)
	default:
		return events.Permanent(fmt.Errorf("session: unexpected event %s", d.Type()))
	}
}

func (c *consumer) applyPolicy(ctx context.Context, account string, p *policyv1.MfaPolicy) error {
	if p == nil {
		return events.Permanent(errors.New("session: event without policy"))
	}
	t, err := c.store.cfg.read(&sessionv1.Enforcement{
		Account: account, Revision: p.GetRevision(), Enforced: p.GetEnforced(), EnforceTime: p.GetEnforceTime(),
		GracePeriod: p.GetGracePeriod(), ApplyToSso: p.GetApplyToSso(), UpdateTime: p.GetUpdateTime(),
	}, c.now())
	if err != nil {
		return events.Permanent(err)
	}
	_, err = c.store.apply(ctx, t)
	return err
}

// applyVersion makes an agent's sessions below a version over. Ending each is left
// to the schedule: auth has done it already, unless it was cut off.
func (c *consumer) applyVersion(ctx context.Context, name string, version int64, keepName string, lowered time.Time) error {
	agent, keep, err := agentAndKept(name, version, keepName)
	if err != nil {
		return events.Permanent(err)
	}
	if err := c.store.fence(ctx, fence{agent: agent, version: version, keep: keep, lowered: lowered}, c.now()); err != nil {
		return err
	}
	return c.store.schedule(ctx, agentSubject(agent), version, c.now())
}

// loweredBy is when an event let the session that stays fall back to AAL1.
func loweredBy(e *authv1.FactorRemoved) time.Time {
	if !e.GetLast() {
		return time.Time{}
	}
	return e.GetRemoveTime().AsTime()
}

// applyRevoked ends sessions that were ended before: only a store that forgot it
// still has them.
func (c *consumer) applyRevoked(ctx context.Context, e *sessionv1.SessionsRevoked) error {
	byBucket := map[int][]sessionRef{}
	for _, name := range e.GetSessions() {
		ref, err := parseSession(name, "sessions")
		if err != nil || ref.account != e.GetAccount() {
			return events.Permanent(errors.New("session: event with a name that is no session's of its account"))
		}
		byBucket[ref.bucket()] = append(byBucket[ref.bucket()], ref)
	}
	for _, refs := range byBucket {
		cause := e.GetCause()
		if cause != sessionv1.SessionsRevoked_MFA_POLICY {
			cause = sessionv1.SessionsRevoked_REVOKED
		}
		if _, err := c.store.end(ctx, ending{sessions: refs, cause: cause, silent: true}, c.now()); err != nil {
			return err
		}
	}
	return nil
}
