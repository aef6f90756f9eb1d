package story

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
)

// What the platform team and admins call. Each call is written down once for each
// door, side by side.

func (c *client) createAccount(ctx context.Context, token, id, displayName string, owner *person) (Account, error) {
	return do[Account](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/accounts",
		body: fields{
			"accountId": id, "displayName": displayName,
			"owner": fields{"email": owner.email, "displayName": owner.displayName, "password": owner.password},
		},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewAccountServiceClient(connect("auth")).CreateAccount(ctx, &authv1.CreateAccountRequest{
				AccountId: id, DisplayName: displayName,
				Owner: &authv1.CreateAccountRequest_Owner{Email: owner.email, DisplayName: owner.displayName, Password: owner.password},
			})
			return r.GetAccount(), err
		},
	})
}

func (c *client) createAgent(ctx context.Context, token, account string, p *person) (Agent, error) {
	parent := "accounts/" + account
	return do[Agent](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/" + parent + "/agents",
		body: fields{"email": p.email, "displayName": p.displayName, "role": p.role, "password": p.password},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewAgentServiceClient(connect("auth")).CreateAgent(ctx, &authv1.CreateAgentRequest{
				Parent: parent, Email: p.email, DisplayName: p.displayName, Password: p.password,
				Role: authv1.Agent_Role(authv1.Agent_Role_value[p.role]),
			})
			return r.GetAgent(), err
		},
	})
}

func (c *client) importAgents(ctx context.Context, token, account string, people []*person) (ImportResults, error) {
	parent := "accounts/" + account
	request := &authv1.ImportAgentsRequest{Parent: parent}
	agents := make([]fields, 0, len(people))
	for _, p := range people {
		row := fields{"email": p.email, "displayName": p.displayName, "role": p.role}
		message := &authv1.ImportAgentsRequest_Row{
			Email: p.email, DisplayName: p.displayName, Role: authv1.Agent_Role(authv1.Agent_Role_value[p.role]),
		}
		if p.passwordHash != "" {
			row["passwordHash"], message.PasswordHash = p.passwordHash, p.passwordHash
		} else {
			row["password"], message.Password = p.password, p.password
		}
		agents, request.Agents = append(agents, row), append(request.Agents, message)
	}
	return do[ImportResults](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/" + parent + "/agents:import", body: fields{"agents": agents},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewAgentServiceClient(connect("auth")).ImportAgents(ctx, request)
		},
	})
}

func (c *client) listAgents(ctx context.Context, token, account, filter string) (AgentList, error) {
	parent := "accounts/" + account
	return do[AgentList](ctx, c.door, token, operation{
		verb: http.MethodGet, path: "/v1/" + parent + "/agents?" + url.Values{"filter": {filter}}.Encode(),
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewAgentServiceClient(connect("auth")).ListAgents(ctx, &authv1.ListAgentsRequest{Parent: parent, Filter: filter})
		},
	})
}

func (c *client) getAgent(ctx context.Context, token, name string) (Agent, error) {
	return do[Agent](ctx, c.door, token, operation{
		verb: http.MethodGet, path: "/v1/" + name,
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewAgentServiceClient(connect("auth")).GetAgent(ctx, &authv1.GetAgentRequest{Name: name})
			return r.GetAgent(), err
		},
	})
}

func (c *client) resetMfa(ctx context.Context, token, name, reason string) (Agent, error) {
	return do[Agent](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/" + name + ":resetMfa", body: fields{"reason": reason},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewAgentServiceClient(connect("auth")).ResetMfa(ctx, &authv1.ResetMfaRequest{Name: name, Reason: reason})
			return r.GetAgent(), err
		},
	})
}

func (c *client) getPolicy(ctx context.Context, token, account string) (Policy, error) {
	name := "accounts/" + account + "/mfaPolicy"
	return do[Policy](ctx, c.door, token, operation{
		verb: http.MethodGet, path: "/v1/" + name,
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := policyv1.NewPolicyServiceClient(connect("policy")).GetMfaPolicy(ctx, &policyv1.GetMfaPolicyRequest{Name: name})
			return r.GetMfaPolicy(), err
		},
	})
}

// enforce switches enforcement on.
func (c *client) enforce(ctx context.Context, token, account string, grace time.Duration) (Policy, error) {
	name := "accounts/" + account + "/mfaPolicy"
	return do[Policy](ctx, c.door, token, operation{
		verb: http.MethodPatch, path: "/v1/" + name, body: fields{"enforced": true, "gracePeriod": seconds(grace)},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := policyv1.NewPolicyServiceClient(connect("policy")).UpdateMfaPolicy(ctx, &policyv1.UpdateMfaPolicyRequest{
				MfaPolicy:  &policyv1.MfaPolicy{Name: name, Enforced: true, GracePeriod: durationpb.New(grace)},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enforced", "grace_period"}},
			})
			return r.GetMfaPolicy(), err
		},
	})
}

// lift switches enforcement off.
func (c *client) lift(ctx context.Context, token, account string) (Policy, error) {
	name := "accounts/" + account + "/mfaPolicy"
	return do[Policy](ctx, c.door, token, operation{
		verb: http.MethodPatch, path: "/v1/" + name, body: fields{"enforced": false},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := policyv1.NewPolicyServiceClient(connect("policy")).UpdateMfaPolicy(ctx, &policyv1.UpdateMfaPolicyRequest{
				MfaPolicy:  &policyv1.MfaPolicy{Name: name},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enforced"}},
			})
			return r.GetMfaPolicy(), err
		},
	})
}

func (c *client) getRollout(ctx context.Context, token, account string) (Rollout, error) {
	name := "accounts/" + account + "/rollout"
	return do[Rollout](ctx, c.door, token, operation{
		verb: http.MethodGet, path: "/v1/" + name,
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := rolloutv1.NewRolloutServiceClient(connect("gateway")).GetRollout(ctx, &rolloutv1.GetRolloutRequest{Name: name})
			return r.GetRollout(), err
		},
	})
}

// preview asks what switching enforcement on would do.
func (c *client) preview(ctx context.Context, token, account string, grace time.Duration) (Preview, error) {
	name := "accounts/" + account + "/rollout"
	return do[Preview](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/" + name + ":preview",
		body: fields{"policy": fields{"enforced": true, "gracePeriod": seconds(grace)}},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return rolloutv1.NewRolloutServiceClient(connect("gateway")).PreviewRollout(ctx, &rolloutv1.PreviewRolloutRequest{
				Name: name, Policy: &policyv1.MfaPolicy{Enforced: true, GracePeriod: durationpb.New(grace)},
			})
		},
	})
}

// seconds writes a duration as JSON does: 604800s.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }
