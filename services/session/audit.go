package session

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

// The store of sessions can keep no chain of events, so what belongs into the audit
// log leaves by the outbox, and auth writes it into its part of the log.

// actionRevoke is how the audit log calls what admins do here.
const actionRevoke = "agent.revokeSessions"

// newRefusals has refused calls told.
func newRefusals(s *Service, deps Deps) (*audit.Refusals, error) {
	return audit.NewRefusals(audit.Config{
		Service: "session",
		Services: []protoreflect.ServiceDescriptor{
			sessionv1.File_twofold_session_v1_session_service_proto.Services().ByName("SessionService"),
			sessionv1.File_twofold_session_v1_agent_session_service_proto.Services().ByName("AgentSessionService"),
		},
		Actions: map[string]string{sessionv1.AgentSessionService_RevokeAllAgentSessions_FullMethodName: actionRevoke},
		Record:  s.tellRefusal,
		Log:     deps.Log, Metrics: deps.Metrics, Now: deps.Now,
	})
}

// originOf is the call that ctx belongs to.
func originOf(ctx context.Context) *eventv1.Origin {
	caller := authz.FromContext(ctx)
	origin := &eventv1.Origin{Actor: &eventv1.Actor{}, RequestId: caller.RequestID}
	switch caller.Kind {
	case authz.KindPerson:
		origin.Actor.Kind, origin.Actor.Name = eventv1.Actor_AGENT, caller.Person.AgentName()
	case authz.KindOperator:
		origin.Actor.Kind = eventv1.Actor_OPERATOR
	case authz.KindService:
		origin.Actor.Kind, origin.Actor.Name = eventv1.Actor_SERVICE, caller.Via
	case authz.KindAnonymous:
	}
	if caller.ClientAddress.IsValid() {
		origin.ClientAddress = caller.ClientAddress.String()
	}
	return origin
}

// encodeOrigin is a call as the outbox has it; "" for none.
func encodeOrigin(origin *eventv1.Origin) (string, error) {
	if origin == nil {
		return "", nil
	}
	raw, err := proto.Marshal(origin)
	if err != nil {
		return "", fmt.Errorf("session: encode the origin of a revocation: %w", err)
	}
	return string(raw), nil
}

func decodeOrigin(text string) (*eventv1.Origin, error) {
	if text == "" {
		return nil, nil
	}
	origin := &eventv1.Origin{}
	return origin, proto.Unmarshal([]byte(text), origin)
}

const (
	// refusalField holds the whole event in an entry of an outbox.
	refusalField = "r"
	// refusalBucket is the one whose outbox takes all of them: they are few, and
	// belong to no agent of this store.
	refusalBucket = 0
)

// tellRefusal puts a refused call into an outbox.
func (s *Service) tellRefusal(ctx context.Context, r audit.Refusal) error {
	raw, err := proto.Marshal(&sessionv1.RevocationRefused{
		Account: r.Account, Subject: r.Subject, ErrorReason: r.Reason, Omitted: int32(r.Omitted), //nolint:gosec // by far less
		Origin: originOf(ctx), RefuseTime: timestamppb.New(s.clock()),
	})
	if err != nil {
		return fmt.Errorf("session: encode a refusal: %w", err)
	}
	entry := &redis.XAddArgs{Stream: outboxKey(refusalBucket), Values: []any{refusalField, raw}}
	if err := s.db.XAdd(ctx, entry).Err(); err != nil {
		return fmt.Errorf("session: store a refusal: %w", err)
	}
	s.relay.notice(refusalBucket)
	return nil
}

// refusedEvent makes the event of an entry of tellRefusal.
func refusedEvent(bucket int, id, text string) (events.Event, error) {
	payload := &sessionv1.RevocationRefused{}
	if err := proto.Unmarshal([]byte(text), payload); err != nil {
		return events.Event{}, fmt.Errorf("session: outbox entry %s of bucket %d: %w", id, bucket, err)
	}
	at := payload.GetRefuseTime().AsTime()
	return events.Event{
		ID:      "revocation-refused-" + strconv.Itoa(bucket) + "-" + id,
		Source:  eventSource,
		Subject: resource.Account(payload.GetAccount()),
		Account: payload.GetAccount(),
		Time:    at,
		Payload: payload,
	}, nil
}
