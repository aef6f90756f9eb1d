package notifier_test

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	netmail "net/mail"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

const (
	kindEnabled = "ENFORCEMENT_ENABLED"
	kindLifted  = "ENFORCEMENT_LIFTED"
)

// read returns a mail's headers and everything it says, decoded as one.
func read(t *testing.T, m mailsink.Message) (netmail.Header, string) {
	t.Helper()
	parsed, err := netmail.ReadMessage(bytes.NewReader(m.Raw))
	require.NoError(t, err)
	body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
	require.NoError(t, err)
	return parsed.Header, string(body)
}

func TestEnforcement_isToldToEverybodyWithoutAFactor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 30)
		s.auth.change("acme", 1, setUp)
		s.auth.change("acme", 2, func(a *authv1.Agent) { a.State = authv1.Agent_DEACTIVATED })
		s.auth.hire("globex", 3)
		s.start()
		e := enabled("acme", 2, began, week)
		s.publish(e)
		s.settled()

		require.Len(t, s.sink.Messages(), 28)
		for n := range 30 {
			want := 1
			if n == 1 || n == 2 {
				want = 0
			}
			require.Equal(t, want, s.mailsOf(kindEnabled, address("acme", n)), n)
		}
		headers, text := read(t, s.sink.To(address("acme", 3))[0])
		require.Equal(t, e.ID, headers.Get("Twofold-Event-Id"))
		require.Equal(t, `"Person N00003X" <agent-00003@acme.example>`, headers.Get("To"))
		for _, want := range []string{
			"ACME Inc", "Grace Hopper", "Person N00003X", "Monday, 30 November 2026 at 14:05 UTC", "https://twofold.example/set-up?account=acme",
		} {
			require.Contains(t, text, want)
		}
		require.Equal(t, 28, s.inState(kindEnabled, "SENT"))
	})
}

func TestEnforcement_firstMailLeavesAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.start()
		s.publish(enabled("acme", 2, began, week)) // connects, and warms up
		s.settled()
		s.auth.hire("globex", 2)
		start := time.Now()
		s.publish(enabled("globex", 2, began, 2*week))
		got, err := s.sink.WaitFor(t.Context(), 4)
		require.NoError(t, err)
		// Far below the second after which a worker looks by itself.
		require.Less(t, got[2].Time.Sub(start), 700*time.Millisecond)
	})
}
