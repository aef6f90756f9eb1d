package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// What admins do and try is in the one log of their account, whichever service they
// do it to: also where that has no database, or refuses it.
func TestAudit_ofAllServices(t *testing.T) {
	t.Parallel()
	c := newCast(t, startAllInOne(t))
	admin, agent := bearer(t.Context(), c.tokens["an admin"]), bearer(t.Context(), c.tokens["an agent"])
	sessions := sessionv1.NewAgentSessionServiceClient(c.connect("session"))
	c.signIn(t, c.account, "target@cast.example", sessionv1.Client_WEB)
	revoke := &sessionv1.RevokeAllAgentSessionsRequest{Parent: c.target}
	_, err := sessions.RevokeAllAgentSessions(admin, revoke)
	require.NoError(t, err)
	_, err = sessions.RevokeAllAgentSessions(agent, revoke)
	require.Equal(t, "CALLER_NOT_PERMITTED", reasonOf(err))
	_, err = notifierv1.NewNoticeServiceClient(c.connect("notifier")).ResendNotice(admin,
		&notifierv1.ResendNoticeRequest{Name: "accounts/" + c.account + "/notices/01920000-0000-7000-8000-000000000000"})
	require.Equal(t, "RESOURCE_NOT_FOUND", reasonOf(err))
	_, err = policyv1.NewPolicyServiceClient(c.connect("policy")).UpdateMfaPolicy(agent,
		&policyv1.UpdateMfaPolicyRequest{MfaPolicy: &policyv1.MfaPolicy{Name: "accounts/" + c.account + "/mfaPolicy"}})
	require.Error(t, err)

	want := map[string]bool{
		"auth agent.create OK": true, "auth agent.revokeSessions OK": true, "auth agent.revokeSessions DENIED": true,
		"notifier notice.resend DENIED": true, "policy mfaPolicy.update DENIED": true,
	}
	var found map[string]bool
	require.Eventuallyf(t, func() bool {
		resp, err := auditv1.NewAuditServiceClient(c.connect("gateway")).ListAuditEvents(admin,
			&auditv1.ListAuditEventsRequest{Parent: "accounts/" + c.account, PageSize: 100})
		require.NoError(t, err)
		found = map[string]bool{}
		for _, e := range resp.GetAuditEvents() {
			key := strings.Join([]string{e.GetService(), e.GetAction(), e.GetResult().String()}, " ")
			found[key] = true
			if key == "auth agent.revokeSessions OK" {
				require.Equal(t, c.target, e.GetSubject())
				require.Equal(t, "Owner", e.GetActor().GetDisplayName())
				require.NotEmpty(t, e.GetRequestId())
			}
		}
		for key := range want {
			if !found[key] {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond, "found %v", &found)
}
