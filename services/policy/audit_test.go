package policy_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// trail returns the audit events of an account, the oldest first, as the gateway
// reads them; and sees that their chain holds.
func (p *process) trail(account string) []*auditv1.AuditEvent {
	p.s.t.Helper()
	client := auditv1.NewAuditTrailServiceClient(p.server.Conn("gateway"))
	resp, err := client.ListAuditTrail(p.s.t.Context(), &auditv1.ListAuditTrailRequest{Account: account, PageSize: 1000})
	require.NoError(p.s.t, err)
	events := make([]*auditv1.AuditEvent, len(resp.GetAuditEvents()))
	for i, e := range resp.GetAuditEvents() {
		events[len(events)-1-i] = e
	}
	head, broken, err := audit.Verify(p.s.t.Context(), p.s.db, account)
	require.NoError(p.s.t, err)
	require.Nil(p.s.t, broken)
	require.EqualValues(p.s.t, len(events), head.Sequence)
	return events
}

func TestAudit_oneEventForEachChange(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		p.create("acme") // changes nothing
		ctx := metadata.AppendToOutgoingContext(with(t.Context(), admin), authz.RequestIDKey, "req-1")
		on := enforced(true)
		on.RequestId = "once"
		for range 2 { // the second is answered as the first was
			_, err := p.people().UpdateMfaPolicy(ctx, on)
			require.NoError(t, err)
		}
		p.update(admin, enforced(true)) // changes nothing
		p.update(operatorToken, grace(time.Hour))
		p.update(admin, enforced(false))
		p.update(admin, grace(week)) // while it is off: no event to anybody else

		events := p.trail("acme")
		require.Len(t, events, 5)
		require.Equal(t, "mfaPolicy.create", events[0].GetAction())
		requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_SERVICE, Name: "auth"}, events[0].GetActor())
		require.Equal(t, map[string]string{"revision": "1", "enforced": "false", "gracePeriod": "604800s"}, events[0].GetDetails())

		require.Equal(t, "mfaPolicy.update", events[1].GetAction())
		require.Equal(t, acme, events[1].GetSubject())
		require.Equal(t, "accounts/acme/auditEvents/policy-2", events[1].GetName())
		require.Equal(t, auditv1.AuditEvent_OK, events[1].GetResult())
		require.Equal(t, "req-1", events[1].GetRequestId())
		requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: "accounts/acme/agents/" + adminID}, events[1].GetActor())
		revoke := events[1].GetDetails()["sessionRevokeTime"]
		require.Equal(t, map[string]string{
			"revision": "2", "transition": "ENABLED", "enforced": "true", "previousEnforced": "false",
			"sessionRevokeTime": revoke, "previousSessionRevokeTime": "",
		}, events[1].GetDetails())
		at, err := time.Parse(time.RFC3339Nano, revoke)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(week), at, time.Minute)

		requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}, events[2].GetActor())
		require.Equal(t, "3600s", events[2].GetDetails()["gracePeriod"])
		require.Equal(t, "604800s", events[2].GetDetails()["previousGracePeriod"])
		require.Equal(t, "DISABLED", events[3].GetDetails()["transition"])
		require.Equal(t, map[string]string{
			"revision": "5", "transition": "UPDATED", "gracePeriod": "604800s", "previousGracePeriod": "3600s",
		}, events[4].GetDetails())
	})
}

func TestAudit_oneEventForEachRefusal(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		p.create("globex")
		stale := enforced(true)
		stale.MfaPolicy.Etag = "stale"
		wrongMask := enforced(true)
		wrongMask.UpdateMask.Paths = []string{"nonsense"}
		used := enforced(false)
		used.RequestId = "used"
		p.update(admin, used)
		reused := enforced(true)
		reused.RequestId = "used"
		longID := enforced(true)
		longID.RequestId = string(make([]byte, 65))
		elsewhere := enforced(true)
		elsewhere.MfaPolicy.Name = "accounts/globex/mfaPolicy"
		nowhere := enforced(true)
		nowhere.MfaPolicy.Name = "accounts/nowhere/mfaPolicy"
		noName := enforced(true)
		noName.MfaPolicy.Name = "my password"

		for _, c := range []struct {
			token   string
			request *policyv1.UpdateMfaPolicyRequest
			reason  string
			subject string
		}{
			{plainAdmin, enforced(true), errs.ReasonAdminNotEnrolled, acme},
			{agent, enforced(true), errs.ReasonCallerNotPermitted, acme},
			{admin, stale, errs.ReasonEtagMismatch, acme},
			{admin, wrongMask, errs.ReasonFieldMaskInvalid, acme},
			{admin, reused, errs.ReasonRequestIDReused, acme},
			{admin, longID, errs.ReasonInvalidField, acme},
			{admin, grace(-time.Second), errs.ReasonGracePeriodOutOfRange, acme},
			// In the log of whoever tries, not of those it was aimed at.
			{admin, elsewhere, errs.ReasonResourceNotFound, "accounts/globex/mfaPolicy"},
			{admin, nowhere, errs.ReasonResourceNotFound, "accounts/nowhere/mfaPolicy"},
			{admin, noName, errs.ReasonInvalidField, ""},
			{admin, &policyv1.UpdateMfaPolicyRequest{}, errs.ReasonInvalidField, ""},
			{operatorToken, grace(-time.Second), errs.ReasonGracePeriodOutOfRange, acme},
		} {
			before := p.trail("acme")
			_, err := p.people().UpdateMfaPolicy(with(t.Context(), c.token), c.request)
			require.Equal(t, c.reason, errs.ReasonOf(err))
			events := p.trail("acme")
			require.Len(t, events, len(before)+1, c.reason)
			e := events[len(events)-1]
			require.Equal(t, auditv1.AuditEvent_DENIED, e.GetResult())
			require.Equal(t, "mfaPolicy.update", e.GetAction())
			require.Equal(t, c.reason, e.GetErrorReason())
			require.Equal(t, c.subject, e.GetSubject())
			require.NotEmpty(t, e.GetRequestId())
			want := &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: "accounts/acme/agents/" + adminID}
			if c.token == operatorToken {
				want = &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}
			}
			requireSame(t, want, e.GetActor())
		}
		require.Len(t, p.trail("globex"), 1)

		// Of nobody known, about nothing there is, without a change, and of what
		// may have happened: none.
		before := len(p.trail("acme"))
		_, err := p.people().UpdateMfaPolicy(with(t.Context(), "forged"), enforced(true))
		require.Equal(t, codes.Unauthenticated, errs.Forward(err).Code())
		_, err = p.people().UpdateMfaPolicy(with(t.Context(), operatorToken), nowhere)
		require.Equal(t, codes.NotFound, errs.Forward(err).Code())
		_, err = p.people().GetMfaPolicy(with(t.Context(), agent), &policyv1.GetMfaPolicyRequest{Name: acme})
		require.Equal(t, codes.PermissionDenied, errs.Forward(err).Code())
		ctx, cancel := context.WithDeadline(with(t.Context(), admin), time.Now().Add(-time.Second))
		defer cancel()
		_, err = p.people().UpdateMfaPolicy(ctx, enforced(true))
		require.Error(t, err)
		require.Len(t, p.trail("acme"), before)
		require.Empty(t, p.trail("nowhere"))
	})
}

// Refusals cost whoever makes them nothing, so they must not cost the suite much.
func TestAudit_aFloodOfRefusalsIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		const calls = 150
		var running sync.WaitGroup
		client := p.people()
		for range calls {
			running.Go(func() {
				if _, err := client.UpdateMfaPolicy(with(t.Context(), agent), enforced(true)); err == nil {
					t.Error("not refused")
				}
			})
		}
		running.Wait()
		events := p.trail("acme")
		require.GreaterOrEqual(t, len(events), 1+60)
		require.Less(t, len(events), 1+60+30) // what time has brought meanwhile, on a slow machine

		// A change is recorded whatever happens.
		p.update(operatorToken, enforced(true))
		last := p.trail("acme")
		require.Equal(t, auditv1.AuditEvent_OK, last[len(last)-1].GetResult())
	})
}

// Two copies write one chain, in the order of the changes.
func TestAudit_changesInParallelAreOneChain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		first, second := s.start(), s.start()
		first.create("acme")
		var running sync.WaitGroup
		for i := range 20 {
			client := []policyv1.PolicyServiceClient{first.people(), second.people()}[i%2]
			running.Go(func() {
				if _, err := client.UpdateMfaPolicy(with(t.Context(), admin), grace(time.Duration(i+1)*time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		events := first.trail("acme")
		require.Len(t, events, 21)
		for i, e := range events {
			require.Equal(t, strconv.Itoa(i+1), e.GetDetails()["revision"]) // in the order of the changes
		}
	})
}
