package auth_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// People come, change and go: an event for each step, none where nothing changes.
func TestAudit_peopleComeAndGo(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		owner := p.account("acme")
		ada := p.agent("ada@example.com", authv1.Agent_AGENT)
		by, ctx := actorNamed(owner), as(t.Context(), owner)
		change := func(wanted *authv1.Agent, fields ...string) func() {
			wanted.Name = ada.GetName()
			return func() {
				_, err := p.agents().UpdateAgent(ctx, &authv1.UpdateAgentRequest{
					Agent: wanted, UpdateMask: &fieldmaskpb.FieldMask{Paths: fields},
				})
				require.NoError(t, err)
			}
		}
		deactivate := func() {
			_, err := p.agents().DeactivateAgent(ctx, &authv1.DeactivateAgentRequest{Name: ada.GetName()})
			require.NoError(t, err)
		}
		reactivate := func() {
			_, err := p.agents().ReactivateAgent(ctx, &authv1.ReactivateAgentRequest{Name: ada.GetName()})
			require.NoError(t, err)
		}
		promote := change(&authv1.Agent{Role: authv1.Agent_ADMIN}, "role")
		p.recorded(promote, "agent.update", ada.GetName(), by, map[string]string{"role": "ADMIN", "previousRole": "AGENT"})
		require.Empty(t, p.since(promote))
		p.recorded(change(&authv1.Agent{DisplayName: "Ada B.", Email: "ada.b@example.com"}, "display_name", "email"),
			"agent.update", ada.GetName(), by, map[string]string{"changed": "displayName email"})
		p.recorded(func() {
			_, err := p.agents().ResendInvitation(ctx, &authv1.ResendInvitationRequest{Name: ada.GetName()})
			require.NoError(t, err)
		}, "agent.resendInvitation", ada.GetName(), by, nil)
		p.recorded(deactivate, "agent.deactivate", ada.GetName(), by, nil)
		require.Empty(t, p.since(deactivate))
		p.recorded(reactivate, "agent.reactivate", ada.GetName(), by, map[string]string{"state": "INVITED"})
		require.Empty(t, p.since(reactivate))

		sso := func() {
			_, err := authv1.NewSignInServiceClient(p.conn("platform")).SignInWithSSO(t.Context(), &authv1.SignInWithSSORequest{
				Account: "acme", Email: "ada.b@example.com", Client: sessionv1.Client_WEB,
			})
			require.NoError(t, err)
		}
		p.recorded(sso, "agent.linkSso", ada.GetName(), &eventv1.Actor{Kind: eventv1.Actor_SERVICE, Name: "platform"}, nil)
		require.Empty(t, p.since(sso), "the first time links, and no other")

		// Refused: one each, by the same names.
		for action, call := range map[string]func() error{
			"agent.deactivate": func() error {
				_, err := p.agents().DeactivateAgent(ctx, &authv1.DeactivateAgentRequest{Name: owner.GetName()})
				return err
			},
			"agent.update": func() error {
				_, err := p.agents().UpdateAgent(ctx, &authv1.UpdateAgentRequest{
					Agent: &authv1.Agent{Name: owner.GetName(), Role: authv1.Agent_AGENT}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"role"}},
				})
				return err
			},
		} {
			events := p.since(func() { require.Equal(t, errs.ReasonCannotChangeSelf, errs.ReasonOf(call())) })
			require.Len(t, events, 1)
			require.Equal(t, auditv1.AuditEvent_DENIED, events[0].GetResult())
			require.Equal(t, action, events[0].GetAction())
			require.Equal(t, owner.GetName(), events[0].GetSubject())
		}
		events := p.since(func() {
			_, err := p.agents().ResendInvitation(ctx, &authv1.ResendInvitationRequest{Name: ada.GetName()})
			require.Equal(t, errs.ReasonAgentNotInvited, errs.ReasonOf(err))
		})
		require.Len(t, events, 1)
	})
}
