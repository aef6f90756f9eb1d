package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// durable names the consumer; all copies of the service share it.
const durable = "notifier"

// consumed are the events that somebody is told of.
func consumed() []proto.Message {
	return []proto.Message{
		&policyv1.EnforcementEnabled{}, &policyv1.EnforcementUpdated{}, &policyv1.EnforcementDisabled{},
		&authv1.MFAEnrolled{}, &authv1.MFAReset{}, &authv1.FactorRemoved{}, &authv1.RecoveryCodeUsed{},
		&authv1.AgentInvited{}, &authv1.AgentsImported{}, &authv1.PasswordResetRequested{}, &authv1.PasswordChanged{},
		&authv1.EmailChanged{},
	}
}

// consumer turns events into rows. It is done with an event once its row is
// committed; an event that comes again finds the row and changes nothing.
type consumer struct {
	store   *store
	people  *people
	bus     *events.Bus
	fanOuts *bell
	notices *bell
	log     *slog.Logger
	metrics *metrics
}

func (c *consumer) run(ctx context.Context) error {
	return c.bus.Consume(ctx, events.ConsumerConfig{
		Durable: durable, Events: consumed(), Handler: c.handle,
		// Their order does not matter, and one that waits for auth must not hold up
		// the others.
		Workers: 4,
	})
}

func (c *consumer) handle(ctx context.Context, d events.Delivery) error {
	switch e := d.Payload.(type) {
	case *policyv1.EnforcementEnabled, *policyv1.EnforcementUpdated, *policyv1.EnforcementDisabled:
		return c.learn(ctx, d)
	case *authv1.MFAReset:
		return c.tell(ctx, d, e.GetAgent(), mail.KindMFAReset, facts{
			Time: timeOf(e.GetResetTime()), Actor: actorOf(e.GetActor()), Reason: e.GetReason(),
		})
	case *authv1.MFAEnrolled:
		return c.tell(ctx, d, e.GetAgent(), mail.KindFactorAdded, facts{Time: timeOf(e.GetEnrollTime())})
	case *authv1.FactorRemoved:
		return c.tell(ctx, d, e.GetAgent(), mail.KindFactorRemoved, facts{Time: timeOf(e.GetRemoveTime())})
	case *authv1.RecoveryCodeUsed:
		return c.tell(ctx, d, e.GetAgent(), mail.KindRecoveryCodeUsed, facts{
			Time: timeOf(e.GetUseTime()), CodesLeft: int(e.GetRecoveryCodesLeft()),
		})
	case *authv1.AgentInvited:
		return c.tell(ctx, d, e.GetAgent(), mail.KindInvitation, facts{Time: timeOf(e.GetInviteTime()), Actor: actorOf(e.GetActor())})
	case *authv1.AgentsImported:
		return c.inviteAll(ctx, d, e)
	case *authv1.PasswordResetRequested:
		return c.tell(ctx, d, e.GetAgent(), mail.KindPasswordReset, facts{Time: timeOf(e.GetRequestTime())})
	case *authv1.PasswordChanged:
		return c.tell(ctx, d, e.GetAgent(), mail.KindPasswordChanged, facts{
			Time: timeOf(e.GetChangeTime()), Cause: e.GetCause().String(),
		})
	case *authv1.EmailChanged:
		return c.tell(ctx, d, e.GetAgent(), mail.KindEmailChanged, facts{
			Time: timeOf(e.GetChangeTime()), Actor: actorOf(e.GetActor()),
			EarlierEmail: e.GetPreviousEmail(), MaskedEmail: e.GetMaskedEmail(),
		})
	default:
		return events.Permanent(fmt.Errorf("notifier: nobody is told of %s", d.Type()))
	}
}

// learn takes note of what an event says about an account's enforcement. However
// many agents are to be told, this is one row.
func (c *consumer) learn(ctx context.Context, d events.Delivery) error {
	news, err := termsOf(d.Account, d.Payload)
	if err != nil {
		return events.Permanent(err)
	}
	isNews, err := c.store.learn(ctx, news, d.ID)
	if err != nil || !isNews {
		return err
	}
	c.fanOuts.ring()
	return nil
}

// inviteAll queues the invitations of an import, which is one batch of agents at
// most. Who has a password, or was kept out since, needs none.
func (c *consumer) inviteAll(ctx context.Context, d events.Delivery, e *authv1.AgentsImported) error {
	if !e.GetSendInvitations() || len(e.GetAgents()) == 0 {
		return nil
	}
	ids := make([]string, 0, len(e.GetAgents()))
	for _, agent := range e.GetAgents() {
		name, err := resource.ParseAgent("agents", agent)
		if err != nil || name.Account != d.Account {
			return events.Permanent(errors.Join(fmt.Errorf("notifier: %s of account %q is about %q", d.Name(), d.Account, agent), err))
		}
		ids = append(ids, name.Agent)
	}
	found, err := c.people.find(ctx, d.Account, ids)
	if err != nil {
		return err
	}
	var notices []notice
	for _, id := range ids {
		if to, ok := found[id]; ok && to.GetState() == authv1.Agent_INVITED {
			notices = append(notices, notice{
				account: d.Account, kind: mail.KindInvitation, eventID: d.ID, agent: id,
				email: to.GetEmail(), displayName: to.GetDisplayName(),
				facts: facts{Time: d.Time.Truncate(time.Microsecond), Actor: actorOf(e.GetActor()), ToMany: true},
			})
		}
	}
	queued, err := c.store.queueAll(ctx, notices)
	if err == nil && queued > 0 {
		c.metrics.count(mail.KindInvitation, stateQueued, queued)
		c.notices.ring()
	}
	return err
}

// tell queues the notice of an event about one agent.
func (c *consumer) tell(ctx context.Context, d events.Delivery, agent string, kind mail.Kind, said facts) error {
	name, err := resource.ParseAgent("agent", agent)
	if err != nil || name.Account != d.Account {
		return events.Permanent(errors.Join(fmt.Errorf("notifier: %s of account %q is about %q", d.Name(), d.Account, agent), err))
	}
	known, err := c.store.has(ctx, d.ID, name.Agent)
	if err != nil || known {
		return err
	}
	found, err := c.people.find(ctx, name.Account, []string{name.Agent})
	if err != nil {
		return err
	}
	to, ok := found[name.Agent]
	if !ok {
		c.log.InfoContext(ctx, "Nobody to tell", slog.String("event_id", d.ID), slog.String("agent", agent))
		return nil
	}
	if said.Time.IsZero() {
		said.Time = d.Time.Truncate(time.Microsecond)
	}
	n := notice{
		account: name.Account, kind: kind, eventID: d.ID, agent: name.Agent,
		email: to.GetEmail(), displayName: to.GetDisplayName(), facts: said,
	}
	if isForEarlierAddress(kind) {
		n.email = said.EarlierEmail
	}
	isNew, err := c.store.queue(ctx, n)
	if err != nil {
		return err
	}
	if isNew {
		c.metrics.count(kind, stateQueued, 1)
		c.notices.ring()
	}
	// By what auth says now and not by what the event said then: the factor may be
	// gone again.
	if kind != mail.KindFactorAdded || recipientOf(to).notSetUp {
		return nil
	}
	suppressed, err := c.store.suppressEnabled(ctx, name.Account, name.Agent)
	c.metrics.count(mail.KindEnforcementEnabled, stateSuppressed, suppressed)
	return err
}
