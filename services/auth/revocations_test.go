package auth_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
)

// sessionEvents publishes events as the session service does.
type sessionEvents struct {
	s   *suite
	bus *events.Bus
	js  jetstream.JetStream
}

func newSessionEvents(s *suite) *sessionEvents {
	nc, err := nats.Connect(s.nats.URL())
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	bus, err := events.NewBus(nc, events.Options{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	require.NoError(s.t, err)
	js, err := jetstream.New(nc)
	require.NoError(s.t, err)
	return &sessionEvents{s: s, bus: bus, js: js}
}

func (e *sessionEvents) publish(id, account string, payload proto.Message) {
	e.s.t.Helper()
	_, _, err := e.bus.Publish(e.s.t.Context(), events.Event{
		ID: id, Source: "twofold/session", Subject: "accounts/" + account, Account: account, Time: time.Now(), Payload: payload,
	})
	require.NoError(e.s.t, err)
}

// again has every event delivered again: a consumer that was lost begins anew.
func (e *sessionEvents) again() {
	e.s.t.Helper()
	require.NoError(e.s.t, e.js.DeleteConsumer(e.s.t.Context(), events.Stream, "auth"))
}

// sessionsOf are n names of sessions of an agent.
func sessionsOf(agent string, n int) (names []string) {
	for range n {
		names = append(names, agent+"/sessions/"+uuid.NewString())
	}
	return names
}

// What admins did to sessions, and tried to, is in the log once, however often its
// event comes.
func TestAudit_revocationsBySessionService(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		bob := p.agent("bob@example.com", authv1.Agent_AGENT)
		p.background()
		session := newSessionEvents(s)
		at := time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
		by := func(name string) *eventv1.Origin {
			return &eventv1.Origin{
				Actor:         &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: name},
				ClientAddress: "203.0.113.9", RequestId: "req-7",
			}
		}
		byOperator := &eventv1.Origin{Actor: operator}
		before := len(p.trail())
		wait := func(n int) []*auditv1.AuditEvent {
			t.Helper()
			// Not by trail: it reads twice, and events come in between.
			require.Eventually(t, func() bool {
				return s.number(`SELECT count(*) FROM audit_events WHERE account = 'acme'`) >= int64(before+n)
			}, 20*time.Second, 10*time.Millisecond)
			events := p.trail()[before:]
			require.Len(t, events, n)
			return events
		}

		session.publish("r1", "acme", &sessionv1.SessionsRevoked{
			Account: "acme", Sessions: sessionsOf(bob.GetName(), 3), Cause: sessionv1.SessionsRevoked_REVOKED,
			RevokeTime: timestamppb.New(at), Origin: by(owner.GetName()),
		})
		// The policy, the agent and a change of the agent end sessions without it.
		session.publish("r2", "acme", &sessionv1.SessionsRevoked{Account: "acme", Sessions: sessionsOf(bob.GetName(), 1)})
		// What makes no sense holds nothing up.
		session.publish("r3", "acme", &sessionv1.SessionsRevoked{Account: "acme", Origin: byOperator})
		session.publish("r4", "acme", &sessionv1.SessionsRevoked{
			Account: "acme", Sessions: sessionsOf("accounts/globex/agents/"+uuid.NewString(), 1), Origin: byOperator,
		})
		session.publish("r5", "acme", &sessionv1.RevocationRefused{Account: "acme", Origin: by("nobody"), ErrorReason: "X"})
		session.publish("r6", "acme", &sessionv1.RevocationRefused{Account: "acme", Origin: byOperator})
		// The operator may aim at an account that is none.
		session.publish("r7", "nowhere", &sessionv1.RevocationRefused{
			Account: "nowhere", Origin: byOperator, ErrorReason: errs.ReasonResourceNotFound, RefuseTime: timestamppb.New(at),
		})
		session.publish("r8", "acme", &sessionv1.RevocationRefused{
			Account: "acme", Subject: owner.GetName(), ErrorReason: errs.ReasonCallerNotPermitted, Omitted: 2,
			Origin: by(bob.GetName()), RefuseTime: timestamppb.New(at),
		})
		session.publish("r9", "acme", &sessionv1.SessionsRevoked{
			Account: "acme", Sessions: sessionsOf(bob.GetName(), 1), RevokeTime: timestamppb.New(at), Origin: byOperator,
		})
		check := func(found []*auditv1.AuditEvent) {
			t.Helper()
			for _, e := range found {
				require.Equal(t, "agent.revokeSessions", e.GetAction())
			}
			require.Equal(t, auditv1.AuditEvent_OK, found[0].GetResult())
			require.Equal(t, bob.GetName(), found[0].GetSubject())
			requireSame(t, actorNamed(owner), found[0].GetActor())
			require.Equal(t, "203.0.113.9", found[0].GetClientAddress())
			require.Equal(t, "req-7", found[0].GetRequestId())
			require.Equal(t, map[string]string{"sessions": "3", "time": "2026-03-01T12:00:00.000001Z"}, found[0].GetDetails())
			require.Equal(t, auditv1.AuditEvent_DENIED, found[1].GetResult())
			require.Equal(t, errs.ReasonCallerNotPermitted, found[1].GetErrorReason())
			require.Equal(t, owner.GetName(), found[1].GetSubject())
			requireSame(t, actorNamed(bob), found[1].GetActor())
			require.Equal(t, map[string]string{"omitted": "2", "time": "2026-03-01T12:00:00.000001Z"}, found[1].GetDetails())
			requireSame(t, operator, found[2].GetActor())
			require.Empty(t, found[2].GetClientAddress())
			require.Equal(t, "1", found[2].GetDetails()["sessions"])
		}
		check(wait(3))

		session.again()
		session.publish("last", "acme", &sessionv1.SessionsRevoked{
			Account: "acme", Sessions: sessionsOf(bob.GetName(), 1), RevokeTime: timestamppb.New(at), Origin: byOperator,
		})
		check(wait(4)) // it comes after all others came again
		require.Zero(t, s.number(`SELECT count(*) FROM audit_events WHERE account <> 'acme'`))

		// Forgotten only when the stream cannot deliver them any more.
		s.exec(`UPDATE recorded_events SET record_time = record_time - ? WHERE event_id = 'r1'`, (events.MaxAge + 25*time.Hour).Microseconds())
		s.exec(`UPDATE recorded_events SET record_time = record_time - ? WHERE event_id = 'r8'`, events.MaxAge.Microseconds())
		p.stop()
		s.start().background()
		require.Eventually(t, func() bool {
			return s.number(`SELECT count(*) FROM recorded_events WHERE event_id = 'r1'`) == 0
		}, 20*time.Second, 10*time.Millisecond)
		require.EqualValues(t, 1, s.number(`SELECT count(*) FROM recorded_events WHERE event_id = 'r8'`))
	})
}
