package notifier_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

func TestListNotices(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		const agents = 25
		s.auth.hire("acme", agents)
		s.auth.hire("globex", 2)
		s.sink.Script(address("acme", 3), mailsink.Refuse(mailsink.AtRcpt, 550))
		p := s.start()
		s.publish(enabled("acme", 2, began, week), enabled("globex", 2, began, week))
		s.settled()
		s.publish(personal("acme", 4)["MFA_RESET"])
		s.settled()
		people, ctx := p.as(""), with(t.Context(), admin)
		list := func(filter, token string, size int32) *notifierv1.ListNoticesResponse {
			t.Helper()
			resp, err := people.ListNotices(ctx, &notifierv1.ListNoticesRequest{
				Parent: "accounts/acme", Filter: filter, PageToken: token, PageSize: size,
			})
			require.NoError(t, err)
			return resp
		}

		var all []*notifierv1.Notice
		token := ""
		for pages := 1; ; pages++ {
			resp := list("", token, 10)
			require.EqualValues(t, agents+1, resp.GetTotalSize())
			all = append(all, resp.GetNotices()...)
			if token = resp.GetNextPageToken(); token == "" {
				require.Equal(t, 3, pages)
				break
			}
		}
		require.Len(t, all, agents+1)
		seen := map[string]bool{}
		for i, n := range all {
			require.False(t, seen[n.GetName()])
			seen[n.GetName()] = true
			require.Regexp(t, `^accounts/acme/notices/[0-9a-f-]{36}$`, n.GetName())
			require.True(t, i == 0 || !n.GetCreateTime().AsTime().After(all[i-1].GetCreateTime().AsTime()), "newest first")
		}
		require.Equal(t, notifierv1.Notice_MFA_RESET, all[0].GetKind())

		for filter, want := range map[string]int{
			"state=FAILED": 1, "state=SENT": agents, "kind=MFA_RESET": 1, "kind=INVITATION": 0, "state = SENT AND kind = MFA_RESET": 1,
			"agent=" + agentName("acme", 4): 2, "agent=" + agentName("acme", 4) + " AND kind=MFA_RESET": 1,
			"agent=" + agentName("globex", 1): 0, "agent=accounts/acme/agents/nobody": 0,
		} {
			resp := list(filter, "", 0)
			require.Len(t, resp.GetNotices(), want, filter)
			require.EqualValues(t, want, resp.GetTotalSize(), filter)
		}
		failed := list("state=FAILED", "", 0).GetNotices()[0]
		require.Equal(t, agentName("acme", 3), failed.GetAgent())
		require.Equal(t, address("acme", 3), failed.GetEmail())
		require.Equal(t, "Person N00003X", failed.GetDisplayName())
		require.EqualValues(t, 1, failed.GetFailedAttempts())
		require.Contains(t, failed.GetLastError(), "refused the address: 550")
		require.Nil(t, failed.GetNextAttemptTime())
		require.NotEmpty(t, failed.GetEventId())
		require.False(t, failed.GetUpdateTime().AsTime().Before(failed.GetCreateTime().AsTime()))
	})
}

func TestListNotices_retryingSaysWhen(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.config.MinRetry, s.config.MaxRetry = 20*time.Minute, 30*time.Minute
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 451))
		p := s.start()
		s.publish(enabled("acme", 2, began, week))
		require.Eventually(t, func() bool { return s.inState(kindEnabled, "RETRYING") == 1 }, patient, often)
		resp, err := p.as("").ListNotices(with(t.Context(), admin), &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=RETRYING"})
		require.NoError(t, err)
		n := resp.GetNotices()[0]
		require.WithinRange(t, n.GetNextAttemptTime().AsTime(), n.GetUpdateTime().AsTime().Add(9*time.Minute), n.GetUpdateTime().AsTime().Add(21*time.Minute))
		require.Contains(t, n.GetLastError(), "put the mail off: 451")
	})
}

func TestListNotices_refuses(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 3)
		p := s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		people := p.as("")
		first, err := people.ListNotices(with(t.Context(), admin), &notifierv1.ListNoticesRequest{Parent: "accounts/acme", PageSize: 1})
		require.NoError(t, err)
		token := first.GetNextPageToken()
		require.NotEmpty(t, token)
		for name, tc := range map[string]struct {
			as     string
			req    *notifierv1.ListNoticesRequest
			code   codes.Code
			reason string
		}{
			"half a filter":         {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=FAILED AND"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"unknown field":         {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "email=a"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"unknown state":         {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=LOST"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"unspecified kind":      {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "kind=KIND_UNSPECIFIED"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"twice the same":        {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=SENT AND state=SENT"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"or":                    {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=SENT OR state=FAILED"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"no agent":              {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "agent=x"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"SQL":                   {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=SENT' OR '1'='1"}, codes.InvalidArgument, errs.ReasonInvalidFilter},
			"token of other filter": {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=SENT", PageToken: token}, codes.InvalidArgument, errs.ReasonInvalidPageToken},
			"broken token":          {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", PageToken: "x" + token}, codes.InvalidArgument, errs.ReasonInvalidPageToken},
			"page too large":        {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme", PageSize: 201}, codes.InvalidArgument, errs.ReasonInvalidField},
			"no account":            {admin, &notifierv1.ListNoticesRequest{Parent: "acme"}, codes.InvalidArgument, errs.ReasonInvalidField},
			"another account":       {globexAdmin, &notifierv1.ListNoticesRequest{Parent: "accounts/acme"}, codes.NotFound, errs.ReasonResourceNotFound},
			"impossible account":    {admin, &notifierv1.ListNoticesRequest{Parent: "accounts/ACME"}, codes.NotFound, errs.ReasonResourceNotFound},
			"no admin":              {plainAgent, &notifierv1.ListNoticesRequest{Parent: "accounts/acme"}, codes.PermissionDenied, errs.ReasonCallerNotPermitted},
		} {
			_, err := people.ListNotices(with(t.Context(), tc.as), tc.req)
			require.Error(t, err, name)
			testkit.RequireError(t, err, tc.code, tc.reason)
		}
		resp, err := people.ListNotices(with(t.Context(), operatorToken), &notifierv1.ListNoticesRequest{Parent: "accounts/acme"})
		require.NoError(t, err)
		require.Len(t, resp.GetNotices(), 3)
	})
}

// notice returns the only notice that a filter finds.
func (p *process) notice(ctx context.Context, filter string) *notifierv1.Notice {
	p.s.t.Helper()
	resp, err := p.as("").ListNotices(with(ctx, admin), &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: filter})
	require.NoError(p.s.t, err)
	require.Len(p.s.t, resp.GetNotices(), 1)
	return resp.GetNotices()[0]
}

func TestResendNotice(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 4)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		s.sink.Script(address("acme", 2), mailsink.Cut(mailsink.AfterStore), mailsink.Cut(mailsink.AfterStore))
		p := s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		people, ctx := p.as(""), with(t.Context(), admin)

		// The terms changed since: what is sent again says the ones in force.
		s.publish(updated("acme", 3, began, 2*week))
		s.settled()
		for _, filter := range []string{"state=FAILED", "state=UNKNOWN"} {
			n := p.notice(t.Context(), filter)
			resp, err := people.ResendNotice(ctx, &notifierv1.ResendNoticeRequest{Name: n.GetName()})
			require.NoError(t, err)
			require.Equal(t, notifierv1.Notice_QUEUED, resp.GetNotice().GetState())
			require.Zero(t, resp.GetNotice().GetFailedAttempts())
			require.Empty(t, resp.GetNotice().GetLastError())
			s.settled()
		}
		require.Equal(t, 4, s.inState(kindEnabled, "SENT"))
		require.Len(t, s.sink.To(address("acme", 1)), 1)
		_, text := read(t, s.sink.To(address("acme", 1))[0])
		require.Contains(t, text, "7 December 2026")
		unknown := s.sink.To(address("acme", 2))
		require.Len(t, unknown, 3)
		first, _ := read(t, unknown[0])
		last, _ := read(t, unknown[2])
		require.Equal(t, first.Get("Message-Id"), last.Get("Message-Id"))
	})
}

func TestResendNotice_goesToTheCorrectedAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		p := s.start()
		s.publish(personal("acme", 1)["FACTOR_REMOVED"])
		s.settled()
		s.auth.change("acme", 1, func(a *authv1.Agent) { a.Email = "right@acme.example" })
		_, err := p.as("").ResendNotice(with(t.Context(), admin), &notifierv1.ResendNoticeRequest{Name: p.notice(t.Context(), "state=FAILED").GetName()})
		require.NoError(t, err)
		s.settled()
		require.Len(t, s.sink.To("right@acme.example"), 1)
		require.Equal(t, "right@acme.example", p.notice(t.Context(), "state=SENT").GetEmail())
	})
}

func TestResendNotice_refuses(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 2)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		p := s.start()
		s.publish(enabled("acme", 2, began, week))
		s.settled()
		failed, sent := p.notice(t.Context(), "state=FAILED").GetName(), p.notice(t.Context(), "state=SENT").GetName()
		people := p.as("")
		refuse := func(as, name string, code codes.Code, reason string) {
			t.Helper()
			_, err := people.ResendNotice(with(t.Context(), as), &notifierv1.ResendNoticeRequest{Name: name})
			testkit.RequireError(t, err, code, reason)
		}
		refuse(admin, sent, codes.FailedPrecondition, errs.ReasonNoticeNotResendable)
		refuse(admin, "accounts/acme/notices/"+agentID(9), codes.NotFound, errs.ReasonResourceNotFound)
		refuse(admin, "accounts/acme/notices/x", codes.NotFound, errs.ReasonResourceNotFound)
		refuse(globexAdmin, failed, codes.NotFound, errs.ReasonResourceNotFound)
		refuse(globexAdmin, "accounts/globex"+failed[len("accounts/acme"):], codes.NotFound, errs.ReasonResourceNotFound)
		refuse(admin, "notices/x", codes.InvalidArgument, errs.ReasonInvalidField)
		refuse(plainAgent, failed, codes.PermissionDenied, errs.ReasonCallerNotPermitted)

		// It is over: that mail would be wrong now.
		s.publish(disabled("acme", 3))
		s.settled()
		refuse(admin, failed, codes.FailedPrecondition, errs.ReasonNoticeNotResendable)
		require.Zero(t, s.mailsOf(kindEnabled, address("acme", 1)))
	})
}

func TestCountNotices(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.auth.hire("acme", 10)
		s.sink.Script(address("acme", 1), mailsink.Refuse(mailsink.AtRcpt, 550))
		p := s.start()
		gateway := p.as("gateway")
		count := func(revision int64) (*notifierv1.CountNoticesResponse, string) {
			t.Helper()
			resp, err := gateway.CountNotices(t.Context(), &notifierv1.CountNoticesRequest{Account: "acme", PolicyRevision: revision})
			require.NoError(t, err)
			var states string
			for _, c := range resp.GetCounts() {
				states += fmt.Sprintf("%s:%d ", c.GetState(), c.GetNotices())
			}
			return resp, states
		}
		resp, states := count(1)
		require.Empty(t, states)
		require.False(t, resp.GetFanOutComplete())
		require.Zero(t, resp.GetTold())

		s.publish(enabled("acme", 2, began, week))
		s.settled()
		resp, states = count(2)
		require.Equal(t, "SENT:9 FAILED:1 ", states)
		require.True(t, resp.GetFanOutComplete())
		require.WithinDuration(t, time.Now(), resp.GetFanOutCompleteTime().AsTime(), time.Minute)
		require.EqualValues(t, 9, resp.GetTold())

		// A revision whose event has not come yet, and then one that mails nobody.
		resp, states = count(3)
		require.Equal(t, "SENT:9 FAILED:1 ", states)
		require.False(t, resp.GetFanOutComplete())
		s.publish(updated("acme", 3, began, 2*week))
		s.settled()
		resp, states = count(3)
		require.Equal(t, "SENT:9 FAILED:1 ", states)
		require.True(t, resp.GetFanOutComplete())

		// One that is told again: everybody counts once.
		s.auth.change("acme", 5, setUp)
		s.publish(updated("acme", 4, began, 2*day))
		s.settled()
		resp, states = count(4)
		require.Equal(t, "SENT:10 ", states)
		require.EqualValues(t, 10, resp.GetTold())

		s.publish(disabled("acme", 5))
		s.settled()
		resp, states = count(5)
		require.Empty(t, states)
		require.Zero(t, resp.GetTold())

		s.publish(enabled("acme", 6, began.Add(day), week))
		s.settled()
		_, states = count(6)
		require.Equal(t, "SENT:9 ", states)
		_, states = count(2)
		require.Equal(t, "SENT:10 ", states, "of the enforcement that revision belonged to")
	})
}

func TestCountNotices_refuses(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	for _, req := range []*notifierv1.CountNoticesRequest{
		{PolicyRevision: 1}, {Account: "Acme", PolicyRevision: 1}, {Account: "accounts/acme", PolicyRevision: 1}, {Account: "acme", PolicyRevision: -1},
	} {
		_, err := p.as("gateway").CountNotices(t.Context(), req)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	_, err := p.as("auth").CountNotices(t.Context(), &notifierv1.CountNoticesRequest{Account: "acme", PolicyRevision: 1})
	testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	_, err = p.as("").CountNotices(with(t.Context(), admin), &notifierv1.CountNoticesRequest{Account: "acme", PolicyRevision: 1})
	require.Error(t, err)
}
