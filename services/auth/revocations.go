package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// durable names the consumer; all copies of the service share it.
const durable = "auth"

// recordedMemory is how long an event is known to be in the audit log: until the
// stream cannot deliver it again.
const recordedMemory = events.MaxAge + 24*time.Hour

// recordRevocations writes into the audit log what admins did to sessions, until
// ctx ends: the session service has no log of its own.
func (s *Service) recordRevocations(ctx context.Context) error {
	return s.bus.Consume(ctx, events.ConsumerConfig{
		Durable: durable,
		Events:  []proto.Message{&sessionv1.SessionsRevoked{}, &sessionv1.RevocationRefused{}},
		Handler: s.recordRevocation,
	})
}

func (s *Service) recordRevocation(ctx context.Context, d events.Delivery) error {
	switch e := d.Payload.(type) {
	case *sessionv1.SessionsRevoked:
		if e.GetOrigin() == nil {
			return nil // the policy did it, or a change that has an event in the log
		}
		return s.recordRevoked(ctx, d, e)
	case *sessionv1.RevocationRefused:
		return s.recordRevocationRefused(ctx, d, e)
	default:
		return events.Permanent(fmt.Errorf("auth: unexpected event %s", d.Type()))
	}
}

func (s *Service) recordRevoked(ctx context.Context, d events.Delivery, e *sessionv1.SessionsRevoked) error {
	caller, err := callerOf(e.GetOrigin())
	if err != nil {
		return err
	}
	var session string
	if len(e.GetSessions()) > 0 {
		session = e.GetSessions()[0]
	}
	agent, _, _ := strings.Cut(session, "/sessions/")
	name, err := resource.ParseAgent("sessions", agent)
	if err != nil || name.Account != d.Account {
		return events.Permanent(errors.Join(fmt.Errorf("auth: %s of account %q ends %q", d.Name(), d.Account, session), err))
	}
	return s.recordOnce(ctx, caller, d.ID, func(ctx context.Context, tx *sqldb.Tx) error {
		return record(ctx, tx, caller, actionRevokeSessions, name.Account, name.String(), details{
			"sessions": strconv.Itoa(len(e.GetSessions())), "time": inUTC(e.GetRevokeTime()),
		})
	})
}

func (s *Service) recordRevocationRefused(ctx context.Context, d events.Delivery, e *sessionv1.RevocationRefused) error {
	caller, err := callerOf(e.GetOrigin())
	if err != nil {
		return err
	}
	if e.GetErrorReason() == "" {
		return events.Permanent(fmt.Errorf("auth: %s without a reason", d.Name()))
	}
	return s.recordOnce(ctx, caller, d.ID, func(ctx context.Context, tx *sqldb.Tx) error {
		return newLog(s.store.db).Append(ctx, tx, audit.Refusal{
			Account: d.Account, Exists: caller.Kind == authz.KindPerson,
			Action: actionRevokeSessions, Subject: e.GetSubject(), Reason: e.GetErrorReason(), Omitted: int(e.GetOmitted()),
		}, details{"time": inUTC(e.GetRefuseTime())})
	})
}

// recordOnce writes an event into the log on behalf of the caller whose call caused
// it, unless it is there.
func (s *Service) recordOnce(
	ctx context.Context, caller *authz.Caller, eventID string, write func(context.Context, *sqldb.Tx) error,
) error {
	err := s.store.db.InTx(authz.NewContext(ctx, caller), func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `INSERT INTO recorded_events (event_id, record_time) VALUES (?, `+tx.NowExpr()+`)
			ON CONFLICT (event_id) DO NOTHING`, eventID)
		if err != nil {
			return err
		}
		if isNew, err := res.RowsAffected(); err != nil || isNew == 0 {
			return err
		}
		return write(ctx, tx)
	})
	return storeError("record an event of sessions", err)
}

// callerOf is who made the call that an event tells of.
func callerOf(origin *eventv1.Origin) (*authz.Caller, error) {
	caller := &authz.Caller{RequestID: origin.GetRequestId()}
	// No address is no address, wherever it was lost.
	caller.ClientAddress, _ = netip.ParseAddr(origin.GetClientAddress())
	switch actor := origin.GetActor(); actor.GetKind() {
	case eventv1.Actor_AGENT:
		name, err := resource.ParseAgent("origin.actor", actor.GetName())
		if err != nil {
			return nil, events.Permanent(fmt.Errorf("auth: the caller %q of an event: %w", actor.GetName(), err))
		}
		caller.Kind, caller.Person = authz.KindPerson, &authz.Person{Account: name.Account, Agent: name.Agent}
	case eventv1.Actor_OPERATOR:
		caller.Kind = authz.KindOperator
	case eventv1.Actor_SERVICE:
		caller.Kind, caller.Via = authz.KindService, actor.GetName()
	case eventv1.Actor_KIND_UNSPECIFIED:
		caller.Kind = authz.KindAnonymous
	}
	return caller, nil
}

// inUTC writes a time as JSON does.
func inUTC(t *timestamppb.Timestamp) string { return t.AsTime().Format(time.RFC3339Nano) }
