package policy

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/events"
)

const eventSource = "twofold/policy"

// eventOf is the event that tells of a change, if any does: settings that change
// while enforcement is off concern nobody yet. Its version is the revision, by
// which consumers tell a late event from a new one.
func eventOf(o outcome, by actor) (e events.Event, told bool, err error) {
	payload := payloadOf(o, by)
	if payload == nil {
		return events.Event{}, false, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return events.Event{}, false, fmt.Errorf("policy: event id: %w", err)
	}
	return events.Event{
		ID:      id.String(),
		Source:  eventSource,
		Subject: nameOf(o.next.account),
		Account: o.next.account,
		Version: o.next.Revision,
		Time:    o.next.updateTime,
		Payload: payload,
	}, true, nil
}

func payloadOf(o outcome, by actor) proto.Message {
	account, saved, who := o.next.account, toProto(o.next), actorToProto(by)
	switch o.transition {
	case enforcement.Enabled:
		return &policyv1.EnforcementEnabled{Account: account, Policy: saved, Actor: who}
	case enforcement.Updated:
		if !o.next.Enforced {
			return nil
		}
		return &policyv1.EnforcementUpdated{
			Account: account, Policy: saved, Actor: who,
			PreviousSessionRevokeTime: timestamp(o.current.SessionRevokeTime()),
		}
	case enforcement.Disabled:
		return &policyv1.EnforcementDisabled{
			Account: account, Policy: saved, Actor: who,
			PreviousEnforceTime:       timestamp(o.current.EnforceTime),
			PreviousSessionRevokeTime: timestamp(o.current.SessionRevokeTime()),
		}
	case enforcement.Unchanged:
	}
	return nil
}
