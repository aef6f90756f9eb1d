package notifier_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

// row is what is stored of the notice to an agent.
type row struct {
	state             string
	failed, ambiguous int
	lastError         string
}

func (s *suite) row(kind, address string) (r row) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(s.t.Context(),
		`SELECT state, failed_attempts, ambiguous_attempts, last_error FROM notices WHERE kind = ? AND email = ?`, kind, address).
		Scan(&r.state, &r.failed, &r.ambiguous, &r.lastError))
	return r
}

func steps(all ...mailsink.Step) []mailsink.Step { return all }

// Whatever the mail server does at whatever moment: how many mails arrive, and what
// the admin sees.
func TestDelivery_faults(t *testing.T) {
	cases := []struct {
		name  string
		steps []mailsink.Step
		mails int
		want  row
	}{
		{"accepted", nil, 1, row{state: "SENT"}},
		{"recipient put off", steps(mailsink.Refuse(mailsink.AtRcpt, 450), mailsink.Refuse(mailsink.AtRcpt, 451)), 1, row{state: "SENT", failed: 2}},
		{"mail put off", steps(mailsink.Refuse(mailsink.BeforeStore, 452), mailsink.Refuse(mailsink.AtData, 451)), 1, row{state: "SENT", failed: 2}},
		{"recipient refused", steps(mailsink.Refuse(mailsink.AtRcpt, 550)), 0, row{"FAILED", 1, 0, "The mail server refused the address: 550 "}},
		{"mail refused", steps(mailsink.Refuse(mailsink.BeforeStore, 554)), 0, row{"FAILED", 1, 0, "The mail server refused the mail: 554 "}},
		{"put off and then refused", steps(mailsink.Refuse(mailsink.AtRcpt, 450), mailsink.Refuse(mailsink.AtRcpt, 550)), 0, row{"FAILED", 2, 0, "The mail server refused the address: 550 "}},
		{"cut at recipient", slices.Repeat(steps(mailsink.Cut(mailsink.AtRcpt)), 5), 1, row{state: "SENT", failed: 5}},
		{"cut before storing", steps(mailsink.Cut(mailsink.BeforeStore)), 1, row{state: "SENT", failed: 1, ambiguous: 1}},
		{"cut before storing, twice", steps(mailsink.Cut(mailsink.BeforeStore), mailsink.Cut(mailsink.BeforeStore)), 0, row{"UNKNOWN", 2, 2, "it may have taken the mail"}},
		{"cut after storing", steps(mailsink.Cut(mailsink.AfterStore)), 2, row{state: "SENT", failed: 1, ambiguous: 1}},
		{"cut after storing, twice", steps(mailsink.Cut(mailsink.AfterStore), mailsink.Cut(mailsink.AfterStore)), 2, row{"UNKNOWN", 2, 2, "it may have taken the mail"}},
		{"cut after storing, then refused", steps(mailsink.Cut(mailsink.AfterStore), mailsink.Refuse(mailsink.AtRcpt, 451)), 2, row{state: "SENT", failed: 2, ambiguous: 1}},
		{"slower than a lease", steps(mailsink.Slow(mailsink.BeforeStore, 3500*time.Millisecond)), 1, row{state: "SENT"}},
		{"hung at recipient", steps(mailsink.Stall(mailsink.AtRcpt)), 1, row{state: "SENT", failed: 1}},
		{"hung after storing", steps(mailsink.Stall(mailsink.AfterStore)), 2, row{state: "SENT", failed: 1, ambiguous: 1}},
	}
	onBoth(t, func(t *testing.T, s *suite) {
		s.pool.MessageTimeout, s.pool.AnswerTimeout = 5*time.Second, 5*time.Second
		s.auth.hire("acme", len(cases))
		for n, tc := range cases {
			s.sink.Script(address("acme", n), tc.steps...)
		}
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		for n, tc := range cases {
			got := s.sink.To(address("acme", n))
			require.Equal(t, tc.mails, len(got), tc.name) //nolint:testifylint // Len would print the mails
			stored := s.row(kindEnabled, address("acme", n))
			require.Contains(t, stored.lastError, tc.want.lastError, tc.name)
			if tc.want.lastError == "" {
				require.Empty(t, stored.lastError, tc.name)
			}
			stored.lastError = tc.want.lastError
			require.Equal(t, tc.want, stored, tc.name)
			for _, m := range got {
				require.Equal(t, string(got[0].Raw), string(m.Raw), "the same mail, under the same Message-ID")
			}
		}
	})
}

// A server that hangs up in the middle of every mail until it recovers gets each
// mail once, however often that was: at most the first such cut is ambiguous.
func TestDelivery_cutInTheMiddleIsRepeatedUntilItWorks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 20
		s.pool.CautionTime = time.Second // so that a slow machine, too, sees the cut before the final dot
		s.auth.hire("acme", agents)
		for n := range agents {
			s.sink.Script(address("acme", n), slices.Repeat(steps(mailsink.Cut(mailsink.AtData)), 6)...)
		}
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		for n := range agents {
			require.Len(t, s.sink.To(address("acme", n)), 1)
		}
		require.Equal(t, agents, s.inState(kindEnabled, "SENT"))
	})
}

// One connection that hangs must not hold up the mails on the others, nor those
// that its worker had claimed.
func TestDelivery_hungConnectionHoldsUpNobodyElse(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 200
		s.auth.hire("acme", agents)
		s.config.Workers, s.config.Lease = 4, time.Second
		s.pool.MessageTimeout = 2 * patient
		s.sink.Script(address("acme", 7), mailsink.Stall(mailsink.AtRcpt))
		p := s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool { return s.inState(kindEnabled, "SENT") == agents-1 }, patient, often)
		require.Equal(t, 1, s.inState(kindEnabled, "SENDING"))
		p.stop()
		require.Equal(t, row{state: "QUEUED"}, s.row(kindEnabled, address("acme", 7)), "we hung up: that is no attempt")
	})
}

// A mail server that does not work at all uses up nobody's attempts, is not stormed
// with connections, and gets everything when it is back.
func TestDelivery_serverAway(t *testing.T) {
	for name, break_ := range map[string]func(s *suite){
		"refuses connections": func(s *suite) { s.sink.RefuseConnections(421) },
		"refuses us":          func(s *suite) { s.sink.Default(mailsink.Refuse(mailsink.AtMail, 550)) },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *suite) {
				const agents = 100
				s.auth.hire("acme", agents)
				s.config.MaxReconnect = 100 * time.Millisecond
				break_(s)
				start := time.Now()
				s.start()
				s.publish(enabled("acme", 2, began, week))
				require.Eventually(t, func() bool {
					return s.inState(kindEnabled, "RETRYING") >= 10 && s.count(`SELECT count(*) FROM notices WHERE last_error <> ''`) >= 10
				}, patient, often)
				// One try after every pause of at least half the longest, and what it
				// took to get there.
				limit := int(time.Since(start)/(50*time.Millisecond)) + 30
				require.Less(t, s.sink.Connections(), limit)
				s.sink.RefuseConnections(0)
				s.sink.Default(mailsink.Accept())
				s.settled()
				require.Len(t, s.sink.Messages(), agents)
				require.Zero(t, s.count(`SELECT count(*) FROM notices WHERE failed_attempts > 0`))
			})
		})
	}
}

func TestDelivery_givesUpAfterItsTimeAndSaysSo(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.config.GiveUpAfter = 500 * time.Millisecond
		s.sink.Script(address("acme", 1), slices.Repeat(steps(mailsink.Refuse(mailsink.AtRcpt, 451)), 10_000)...)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		got := s.row(kindEnabled, address("acme", 1))
		require.Equal(t, "FAILED", got.state)
		require.Contains(t, got.lastError, "Given up after many attempts. The mail server put the mail off: 451")
		require.Greater(t, got.failed, 2)
	})
}

// Personal notices do not wait behind the mails to a whole account.
func TestDelivery_personalNoticesGoFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 600
		s.auth.hire("acme", agents)
		s.sink.RefuseConnections(421)
		s.sink.Default(mailsink.Slow(mailsink.AtRcpt, 20*time.Millisecond))
		s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM notices`) == agents }, patient, often)
		s.publish(personal("acme", 1)["MFA_RESET"])
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM notices`) == agents+1 }, patient, often)
		s.sink.RefuseConnections(0)
		require.Eventually(t, func() bool { return s.inState("MFA_RESET", "SENT") == 1 }, patient, often)
		require.Less(t, len(s.sink.Messages()), agents-100)
	})
}

// Copies of the service share the work and repeat none of it.
func TestDelivery_severalCopies(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		agents := 300
		if s.db.Dialect() == "sqlite" {
			agents = 50 // processes that share a file are slow, and only tests do that
		}
		s.auth.hire("acme", agents)
		for range 3 {
			s.start()
		}
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		require.Len(t, s.sink.Messages(), agents)
		for n := range agents {
			require.Len(t, s.sink.To(address("acme", n)), 1)
		}
	})
}

// Stopped or killed at any moment, five times while thousands of agents are told:
// nobody is missed and nobody is told three times.
func TestDelivery_interrupted(t *testing.T) {
	for name, end := range map[string]func(p *process){
		"stopped": func(p *process) { p.stop() },
		"killed":  func(p *process) { p.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *suite) {
				const agents, ends, workers = 3000, 5, 8
				s.auth.hire("acme", agents)
				s.config.Lease = time.Second
				p := s.start()
				s.publish(enabled("acme", 2, began, week))
				for k := range ends {
					_, err := s.sink.WaitFor(t.Context(), 10+k*400)
					require.NoError(t, err)
					end(p)
					p = s.start()
				}
				s.settledWithin(5 * time.Minute) // thousands of mails, perhaps on a busy machine
				perAgent := map[string]int{}
				for _, m := range s.sink.Messages() {
					require.Len(t, m.To, 1)
					perAgent[m.To[0]]++
				}
				twice := 0
				for n := range agents {
					got := perAgent[address("acme", n)]
					require.True(t, got == 1 || got == 2, "agent %d: %d mails", n, got)
					twice += got - 1
				}
				if name == "stopped" {
					require.Zero(t, twice, "what ends in order repeats nothing")
				}
				require.LessOrEqual(t, twice, ends*workers, "only mails that were being handed over")
				// Few are killed twice in handing over the same mail. Then nobody knows, and
				// admins are told so.
				unknown := s.inState(kindEnabled, "UNKNOWN")
				if name == "stopped" {
					require.Zero(t, unknown)
				}
				require.LessOrEqual(t, unknown, ends)
				require.Equal(t, agents, s.inState(kindEnabled, "SENT")+unknown)
				require.Equal(t, agents, s.count(`SELECT agents FROM fan_outs`))
			})
		})
	}
}
