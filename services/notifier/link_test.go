package notifier_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

// IssueLink gives every event and agent a token, as auth does, and none to who is
// in voided.
func (f *fakeAuth) IssueLink(ctx context.Context, req *authv1.IssueLinkRequest) (*authv1.IssueLinkResponse, error) {
	if err := f.ask(ctx, "IssueLink"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.links = append(f.links, req)
	return &authv1.IssueLinkResponse{
		Token: tokenOf(req.GetEventId(), req.GetAgent()), ExpireTime: timestamppb.New(began.Add(week)),
	}, nil
}

func tokenOf(eventID, agent string) string {
	return "tfl1_" + eventID + "_" + agent[strings.LastIndex(agent, "/")+1:]
}

func (f *fakeAuth) linksIssued() []*authv1.IssueLinkRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*authv1.IssueLinkRequest(nil), f.links...)
}

var linkInMail = regexp.MustCompile(`https://twofold\.example/[^\s"<]+`)

// linkOf returns the one link of a mail, which every part of it has.
func linkOf(t *testing.T, text string) *url.URL {
	t.Helper()
	found := slices.Compact(linkInMail.FindAllString(text, -1))
	require.Len(t, found, 1, text)
	link, err := url.Parse(found[0])
	require.NoError(t, err)
	return link
}

func invited(account string, n int) events.Event {
	return eventOf(account, 1, &authv1.AgentInvited{
		Agent: agentName(account, n), AgentVersion: 1, InviteTime: timestamppb.New(began), Actor: grace(account),
	})
}

func resetRequested(account string, n int) events.Event {
	return eventOf(account, 1, &authv1.PasswordResetRequested{
		Agent: agentName(account, n), AgentVersion: 1, RequestTime: timestamppb.New(began),
	})
}

func TestLinks_areInTheMailAndNowhereElse(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		for n := range 3 {
			s.auth.change("acme", n, setUp) // so that nobody is told of the enforcement
		}
		s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		for kind, c := range map[string]struct {
			event events.Event
			path  string
			wants []string
		}{
			"INVITATION": {invited("acme", 1), "/accept-invitation", []string{
				"Grace Hopper has made a profile for you at ACME Inc", "requires two-factor authentication",
				"Monday, 30 November 2026 at 14:05 UTC",
			}},
			"PASSWORD_RESET": {resetRequested("acme", 1), "/reset-password", []string{
				"asked for a new password", "Monday, 23 November 2026 at 14:05 UTC", "Monday, 30 November 2026 at 14:05 UTC",
			}},
		} {
			s.sink.Reset()
			s.publish(c.event)
			s.settled()
			require.Len(t, s.sink.Messages(), 1, kind)
			headers, text := read(t, s.sink.Messages()[0])
			require.Equal(t, kind, headers.Get("Twofold-Notice"))
			for _, want := range c.wants {
				require.Contains(t, strings.Join(strings.Fields(text), " "), want, kind)
			}
			link := linkOf(t, text)
			require.Equal(t, c.path, link.Path)
			require.Equal(t, "account=acme", link.RawQuery)
			token := tokenOf(c.event.ID, agentName("acme", 1))
			require.Equal(t, "token="+token, link.Fragment, "behind the #, which goes to no server")
			require.Zero(t, s.count(`SELECT count(*) FROM notices WHERE facts LIKE ? OR last_error LIKE ?`, "%tfl1_%", "%tfl1_%"))
		}
	})
}

// A mail that is tried again holds the same link: nobody knows which of the two the
// agent will read.
func TestLinks_triedAgain_areTheSame(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 450), mailsink.Cut(mailsink.AfterStore))
		s.start()
		e := invited("acme", 1)
		s.publish(e)
		s.settled()
		require.Len(t, s.sink.Messages(), 2, "the mail server took it, hung up, and took it again")
		for _, m := range s.sink.Messages() {
			_, text := read(t, m)
			require.Equal(t, "token="+tokenOf(e.ID, agentName("acme", 1)), linkOf(t, text).Fragment)
		}
		require.Len(t, s.auth.linksIssued(), 3)
		for _, req := range s.auth.linksIssued() {
			require.Equal(t, agentName("acme", 1), req.GetAgent())
			require.Equal(t, authv1.IssueLinkRequest_INVITATION, req.GetPurpose())
			require.Equal(t, e.ID, req.GetEventId())
		}
	})
}

// What auth has no link for any more, because it was used or replaced, is told to
// nobody; while auth does not answer, the notice waits.
func TestLinks_voidOrUnknown(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.auth.answers(func(_ context.Context, method string) error {
			if method == "IssueLink" {
				return errs.New(codes.NotFound, errs.ReasonResourceNotFound, "There is no such resource.")
			}
			return nil
		})
		s.start()
		s.publish(resetRequested("acme", 1))
		s.settled()
		require.Empty(t, s.sink.Messages())
		require.Equal(t, 1, s.inState("PASSWORD_RESET", "SUPPRESSED"))

		asked := make(chan struct{}, 100)
		s.auth.answers(func(_ context.Context, method string) error {
			if method == "IssueLink" {
				asked <- struct{}{}
				return errs.Unavailable(fmt.Errorf("switched off by the test"))
			}
			return nil
		})
		s.publish(invited("acme", 1))
		<-asked
		require.Empty(t, s.sink.Messages())
		s.auth.answers(nil)
		s.settled()
		require.Equal(t, 1, s.mailsOf("INVITATION", address("acme", 1)))
	})
}

// An import tells those who were invited, each once, and nobody when it was not
// asked to.
func TestImport_invitesWhoHasNoPassword(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const n = 450 // more than one statement inserts
		s.auth.hire("acme", n)
		names := make([]string, 0, n)
		for i := range n {
			names = append(names, agentName("acme", i))
			if i != 7 {
				s.auth.change("acme", i, func(a *authv1.Agent) { a.State = authv1.Agent_INVITED })
			}
		}
		s.start()
		s.publish(eventOf("acme", 0, &authv1.AgentsImported{Account: "acme", Agents: names}))
		s.settled()
		require.Empty(t, s.sink.Messages())

		again := s.publisherAnew()
		e := eventOf("acme", 0, &authv1.AgentsImported{
			Account: "acme", Agents: names, SendInvitations: true, Actor: &eventv1.Actor{Kind: eventv1.Actor_OPERATOR},
		})
		s.publish(e)
		again(e)
		s.settled()
		require.Len(t, s.sink.Messages(), n-1)
		require.Equal(t, n-1, s.inState("INVITATION", "SENT"))
		require.Zero(t, s.mailsOf("INVITATION", address("acme", 7)), "has a password")
		require.Equal(t, n-1, s.count(`SELECT count(*) FROM notices WHERE priority = 1`), "nobody's new password waits behind them")
		_, text := read(t, s.sink.To(address("acme", 3))[0])
		require.Contains(t, text, "The platform team")
		require.Equal(t, "token="+tokenOf(e.ID, agentName("acme", 3)), linkOf(t, text).Fragment)
	})
}

// A change of address is told to the old one, which learns little of the new one,
// also when the agent cannot sign in any more.
func TestEmailChanged_goesToTheOldAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.auth.change("acme", 1, func(a *authv1.Agent) {
			a.Email, a.State = "new.address@other.example", authv1.Agent_DEACTIVATED
		})
		s.start()
		s.publish(eventOf("acme", 3, &authv1.EmailChanged{
			Agent: agentName("acme", 1), AgentVersion: 3, PreviousEmail: "old@acme.example", MaskedEmail: "n***@o***.example",
			ChangeTime: timestamppb.New(began), Actor: grace("acme"),
		}))
		s.settled()
		require.Len(t, s.sink.Messages(), 1)
		require.Equal(t, []string{"old@acme.example"}, s.sink.Messages()[0].To)
		headers, text := read(t, s.sink.Messages()[0])
		require.Equal(t, "EMAIL_CHANGED", headers.Get("Twofold-Notice"))
		text = strings.Join(strings.Fields(text), " ")
		for _, want := range []string{"Grace Hopper has changed", "n***@o***.example", "ACME Inc"} {
			require.Contains(t, text, want)
		}
		require.NotContains(t, string(s.sink.Messages()[0].Raw), "new.address")
	})
}

func TestPasswordChanged_saysHow(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.start()
		for cause, want := range map[authv1.PasswordChanged_Cause]string{
			authv1.PasswordChanged_CHANGED:    "signed out on your other devices",
			authv1.PasswordChanged_RESET:      "with a link that was sent to this address",
			authv1.PasswordChanged_INVITATION: "A password was chosen",
		} {
			s.sink.Reset()
			s.publish(eventOf("acme", 2, &authv1.PasswordChanged{
				Agent: agentName("acme", 1), AgentVersion: 2, ChangeTime: timestamppb.New(began), Cause: cause,
			}))
			s.settled()
			require.Len(t, s.sink.Messages(), 1)
			headers, text := read(t, s.sink.Messages()[0])
			require.Equal(t, "PASSWORD_CHANGED", headers.Get("Twofold-Notice"))
			require.Contains(t, strings.Join(strings.Fields(text), " "), want)
			require.Contains(t, text, "/profile?account=acme")
		}
	})
}
