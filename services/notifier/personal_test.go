package notifier_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/events"
)

// personal returns one event of each kind about an agent, by the kind of its
// notice.
func personal(account string, n int) map[string]events.Event {
	agent, at := agentName(account, n), timestamppb.New(began)
	return map[string]events.Event{
		"MFA_RESET": eventOf(account, 5, &authv1.MFAReset{
			Agent: agent, AgentVersion: 5, Reason: "Lost the phone", ResetTime: at, Actor: grace(account),
		}),
		"FACTOR_ADDED":       eventOf(account, 6, &authv1.MFAEnrolled{Agent: agent, AgentVersion: 6, EnrollTime: at}),
		"FACTOR_REMOVED":     eventOf(account, 7, &authv1.FactorRemoved{Agent: agent, AgentVersion: 7, RemoveTime: at}),
		"RECOVERY_CODE_USED": eventOf(account, 8, &authv1.RecoveryCodeUsed{Agent: agent, AgentVersion: 8, UseTime: at, RecoveryCodesLeft: 7}),
	}
}

// publisherAnew returns a function that publishes an event as a message of its own,
// without the id by which the stream drops what it has seen: as long after, or when
// the stream was restored.
func (s *suite) publisherAnew() func(e events.Event) {
	s.t.Helper()
	nc, err := nats.Connect(s.nats.URL())
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	js, err := nc.JetStream()
	require.NoError(s.t, err)
	return func(e events.Event) {
		data, err := proto.Marshal(e.Payload)
		require.NoError(s.t, err)
		msg := nats.NewMsg("twofold." + strings.Split(e.Type(), ".")[1] + "." + e.Name() + "." + e.Account)
		msg.Data = data
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "content-type": "application/protobuf", "ce-id": e.ID, "ce-source": e.Source,
			"ce-type": e.Type(), "ce-time": e.Time.Format(time.RFC3339Nano), "ce-subject": e.Subject, "ce-aggregateversion": "1",
		} {
			msg.Header.Set(name, value)
		}
		ack, err := js.PublishMsg(msg)
		require.NoError(s.t, err)
		s.published = max(s.published, ack.Sequence)
	}
}

func TestPersonal_isToldToTheAgentAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		s.start()
		wants := map[string][]string{
			"MFA_RESET":          {"Grace Hopper has reset", "Lost the phone", "/sign-in?account=acme"},
			"FACTOR_ADDED":       {"Authenticator app", "/profile?account=acme"},
			"FACTOR_REMOVED":     {"Authenticator app", "/profile?account=acme"},
			"RECOVERY_CODE_USED": {"7 recovery codes left", "/profile?account=acme"},
		}
		for kind, e := range personal("acme", 1) {
			s.sink.Reset()
			s.publish(e)
			s.settled()
			got := s.sink.Messages()
			require.Len(t, got, 1, kind)
			require.Equal(t, []string{address("acme", 1)}, got[0].To)
			headers, text := read(t, got[0])
			require.Equal(t, kind, headers.Get("Twofold-Notice"))
			require.Equal(t, e.ID, headers.Get("Twofold-Event-Id"))
			text = strings.Join(strings.Fields(text), " ")
			for _, want := range append(wants[kind], "ACME Inc", "Person N00001X", "Monday, 23 November 2026 at 14:05 UTC") {
				require.Contains(t, text, want, kind)
			}
			require.Equal(t, 1, s.inState(kind, "SENT"))
		}
	})
}

func TestPersonal_resetSaysWhetherAFactorIsRequiredAndByWhom(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		for n := range 2 {
			s.auth.change("acme", n, setUp)
		}
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		s.publish(eventOf("acme", 5, &authv1.MFAReset{
			Agent: agentName("acme", 1), AgentVersion: 5, ResetTime: timestamppb.New(began), Actor: &eventv1.Actor{Kind: eventv1.Actor_OPERATOR},
		}))
		s.settled()
		require.Len(t, s.sink.Messages(), 1)
		_, text := read(t, s.sink.Messages()[0])
		text = strings.Join(strings.Fields(text), " ")
		require.Contains(t, text, "The platform team has reset")
		require.Contains(t, text, "ACME Inc requires")
	})
}

func TestPersonal_nobodyToTell(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		s.auth.hire("globex", 2)
		s.auth.change("acme", 2, func(a *authv1.Agent) { a.State = authv1.Agent_DEACTIVATED })
		s.auth.change("globex", 1, func(a *authv1.Agent) { a.State = authv1.Agent_DEACTIVATED })
		s.start()
		s.publish(personal("acme", 77)["MFA_RESET"], personal("acme", 2)["MFA_RESET"],
			personal("globex", 1)["MFA_RESET"], personal("acme", 1)["MFA_RESET"])
		s.settled()
		require.Len(t, s.sink.Messages(), 1)
		require.Equal(t, 2, s.inState("MFA_RESET", "SUPPRESSED"))
	})
}

// A late duplicate of an enrollment whose factor was reset since must not keep the
// agent's mail back.
func TestPersonal_lateEnrollmentKeepsNoMailBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.sink.RefuseConnections(421)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM notices`) == 2 }, patient, often)
		s.publish(personal("acme", 1)["FACTOR_ADDED"])
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM notices`) == 3 }, patient, often)
		s.sink.RefuseConnections(0)
		s.settled()
		require.Equal(t, 1, s.mailsOf(kindEnabled, address("acme", 1)))
	})
}
