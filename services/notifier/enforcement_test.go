package notifier_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

const day = 24 * time.Hour

func TestEnforcement_earlierDeadlineIsToldAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 5)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		s.auth.change("acme", 4, setUp)
		e := updated("acme", 3, began, 2*day)
		s.publish(e)
		s.settled()
		for n := range 4 {
			require.Equal(t, 2, s.mailsOf(kindEnabled, address("acme", n)))
		}
		require.Equal(t, 1, s.mailsOf(kindEnabled, address("acme", 4)), "has a factor by now")
		headers, text := read(t, s.sink.To(address("acme", 1))[1])
		require.Equal(t, e.ID, headers.Get("Twofold-Event-Id"))
		for _, want := range []string{"has changed the date", "Wednesday, 25 November 2026 at 14:05 UTC", "Monday, 30 November 2026 at 14:05 UTC"} {
			require.Contains(t, strings.Join(strings.Fields(text), " "), want)
		}
	})
}

func TestEnforcement_laterDeadlineIsNotMailed(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 5)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		s.publish(updated("acme", 3, began, 2*week))
		s.settled()
		require.Len(t, s.sink.Messages(), 5)
		// Earlier than the one before and still not earlier than what people know.
		s.publish(updated("acme", 4, began, 10*day))
		s.settled()
		require.Len(t, s.sink.Messages(), 5)
		s.publish(updated("acme", 5, began, 3*day))
		s.settled()
		require.Len(t, s.sink.Messages(), 10)
	})
}

// The mails that a change overtakes are not sent, and those agents learn the new
// terms instead, as if nobody had ever told them others.
func TestEnforcement_changeOvertakesWaitingMails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		period time.Duration
		again  int // of those who know the old date
	}{{"later", 2 * week, 0}, {"earlier", 2 * day, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *suite) {
				const agents, knowing = 40, 10
				s.auth.hire("acme", agents)
				for n := knowing; n < agents; n++ { // their mail server is busy
					s.sink.Script(address("acme", n), slices.Repeat([]mailsink.Step{mailsink.Refuse(mailsink.AtRcpt, 451)}, 3)...)
				}
				s.config.MinRetry, s.config.MaxRetry = time.Minute, time.Minute
				s.start()
				s.publish(enabled("acme", 2, began, week))
				require.Eventually(t, func() bool { return s.inState(kindEnabled, "RETRYING") == agents-knowing }, patient, often)
				for n := knowing; n < agents; n++ {
					s.sink.Script(address("acme", n))
				}
				e := updated("acme", 3, began, tc.period)
				s.publish(e)
				s.settled()
				for n := range agents {
					got := s.sink.To(address("acme", n))
					if n < knowing {
						require.Len(t, got, 1+tc.again, n)
						continue
					}
					require.Len(t, got, 1, n)
					headers, text := read(t, got[0])
					require.Equal(t, e.ID, headers.Get("Twofold-Event-Id"))
					require.Contains(t, text, began.Add(tc.period).Format("2 January 2006"))
					require.Contains(t, text, "has switched on")
				}
				require.Equal(t, agents-knowing, s.inState(kindEnabled, "SUPPRESSED"))
			})
		})
	}
}

func TestEnforcement_liftedIsToldToThoseWhoWereTold(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 6)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		s.sink.Script(address("acme", 2), slices.Repeat([]mailsink.Step{mailsink.Refuse(mailsink.AtRcpt, 451)}, 1000)...)
		s.sink.Script(address("acme", 3), mailsink.Cut(mailsink.AfterStore), mailsink.Cut(mailsink.AfterStore))
		s.auth.change("acme", 4, setUp)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool {
			return s.inState(kindEnabled, "SENT") == 2 && s.inState(kindEnabled, "FAILED") == 1 &&
				s.inState(kindEnabled, "RETRYING") == 1 && s.inState(kindEnabled, "UNKNOWN") == 1
		}, patient, often)
		s.auth.change("acme", 0, setUp) // was told all the same
		s.auth.change("acme", 5, func(a *authv1.Agent) { a.State = authv1.Agent_DEACTIVATED })
		s.publish(disabled("acme", 3))
		s.settled()
		for n, want := range []int{1, 0, 0, 1, 0, 0} {
			require.Equal(t, want, s.mailsOf(kindLifted, address("acme", n)), n)
		}
		require.Zero(t, s.mailsOf(kindEnabled, address("acme", 2)))

		// It is over: enabling and lifting again concerns those told this time.
		s.publish(enabled("acme", 4, began.Add(day), week), disabled("acme", 5))
		s.settled()
		for n := range 6 {
			at := address("acme", n)
			require.LessOrEqual(t, s.mailsOf(kindLifted, at), s.mailsOf(kindEnabled, at), n)
		}
	})
}

// Whoever knows of an enforcement must hear of its end, even if it was switched on
// and off again before the mails about its end had left.
func TestEnforcement_nobodyIsLeftBelievingInIt(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 20
		s.auth.hire("acme", agents)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		for n := range agents {
			s.auth.change("acme", n, setUp)
		}
		s.sink.RefuseConnections(421)
		s.publish(disabled("acme", 3))
		require.Eventually(t, func() bool {
			return s.count(`SELECT count(*) FROM notices WHERE kind = 'ENFORCEMENT_LIFTED'`) == agents
		}, patient, often)
		s.publish(enabled("acme", 4, began.Add(time.Hour), week))
		require.Eventually(t, func() bool { return s.inState(kindLifted, "SUPPRESSED") == agents }, patient, often)
		e := disabled("acme", 5)
		s.publish(e)
		s.sink.RefuseConnections(0)
		s.settled()
		for n := range agents {
			require.Equal(t, 1, s.mailsOf(kindEnabled, address("acme", n)))
			require.Equal(t, 1, s.mailsOf(kindLifted, address("acme", n)))
			headers, _ := read(t, s.sink.To(address("acme", n))[1])
			require.Equal(t, e.ID, headers.Get("Twofold-Event-Id"))
		}
	})
}

// permutations returns all orders of the events.
func permutations(all []events.Event) [][]events.Event {
	if len(all) <= 1 {
		return [][]events.Event{all}
	}
	var orders [][]events.Event
	for i := range all {
		rest := slices.Delete(slices.Clone(all), i, i+1)
		for _, order := range permutations(rest) {
			orders = append(orders, append([]events.Event{all[i]}, order...))
		}
	}
	return orders
}

// In whatever order and however often events come, the newest stands: nobody is
// left believing what no longer holds, and nobody is told twice.
func TestEnforcement_anyOrderOfEvents(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.start()
		type story struct {
			account string
			last    string
		}
		var stories []story
		var repeat []events.Event
		story0 := []func(account string) events.Event{
			func(a string) events.Event { return enabled(a, 2, began, week) },
			func(a string) events.Event { return updated(a, 3, began, 2*day) },
			func(a string) events.Event { return disabled(a, 4) },
		}
		for length := 2; length <= 3; length++ {
			indices := make([]events.Event, length)
			for i := range indices {
				indices[i] = events.Event{Version: int64(i)}
			}
			for k, order := range permutations(indices) {
				account := fmt.Sprintf("acct-%d-%d", length, k)
				s.auth.hire(account, 3)
				for _, e := range order {
					event := story0[e.Version](account)
					s.publish(event, event)
					repeat = append(repeat, event)
				}
				stories = append(stories, story{account, []string{"", "", "on", "off"}[length]})
			}
		}
		s.settled()
		slices.Reverse(repeat)
		s.publish(repeat...)
		s.settled()
		for _, st := range stories {
			for n := range 3 {
				at := address(st.account, n)
				mails := s.sink.To(at)
				on, off := s.mailsOf(kindEnabled, at), s.mailsOf(kindLifted, at)
				require.LessOrEqual(t, on, 2, "%v", st)
				switch st.last {
				case "on":
					require.Positive(t, on)
					require.Zero(t, off)
					_, text := read(t, mails[len(mails)-1])
					require.Contains(t, text, began.Add(2*day).Format("2 January 2006"), "the newest deadline was told last")
				case "off":
					if on == 0 {
						require.Zero(t, off, "%v", st)
					} else {
						require.Equal(t, 1, off, "%v", st)
						_, text := read(t, mails[len(mails)-1])
						require.Contains(t, text, "has switched off")
					}
				}
			}
		}
	})
}

func TestEvents_hundredTimesIsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		s.start()
		all := []events.Event{enabled("acme", 2, began, week)}
		for _, e := range personal("acme", 1) {
			all = append(all, e)
		}
		publishAnew := s.publisherAnew()
		for range 100 {
			for _, e := range all {
				publishAnew(e)
			}
		}
		s.settled()
		require.Len(t, s.sink.Messages(), 3+len(all)-1)
		require.Equal(t, 3+len(all)-1, s.count(`SELECT count(*) FROM notices`))
	})
}

func TestEnforcement_whoEnrolledMeanwhileIsNotTold(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 60
		s.auth.hire("acme", agents)
		s.sink.RefuseConnections(421)
		s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM notices`) == agents }, patient, often)
		// One half by its event, the other only by what auth says.
		for n := range agents {
			switch n % 3 {
			case 0:
				s.auth.change("acme", n, setUp)
				s.publish(personal("acme", n)["FACTOR_ADDED"])
			case 1:
				s.auth.change("acme", n, setUp)
			}
		}
		require.Eventually(t, func() bool {
			return s.inState("FACTOR_ADDED", "QUEUED")+s.inState("FACTOR_ADDED", "RETRYING") == agents/3
		}, patient, often)
		s.sink.RefuseConnections(0)
		s.settled()
		for n := range agents {
			want := 0
			if n%3 == 2 {
				want = 1
			}
			require.Equal(t, want, s.mailsOf(kindEnabled, address("acme", n)), n)
		}
		require.Equal(t, 2*agents/3, s.inState(kindEnabled, "SUPPRESSED"))
	})
}

// An auth service that is away delays everything and loses nothing.
func TestEnforcement_waitsForAuth(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 10)
		s.start()
		s.auth.answers(func(context.Context, string) error { return status.Error(codes.Unavailable, "away") })
		s.publish(enabled("acme", 2, began, week))
		s.publish(personal("acme", 1)["MFA_RESET"])
		require.Eventually(t, func() bool { return s.count(`SELECT count(*) FROM fan_outs`) == 1 }, patient, often)
		s.auth.answers(nil)
		s.settled()
		require.Len(t, s.sink.Messages(), 11)
		require.Zero(t, s.count(`SELECT count(*) FROM notices WHERE failed_attempts > 0`))
	})
}
