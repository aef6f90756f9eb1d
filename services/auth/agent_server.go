package auth

import (
	"context"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const defaultPageSize = 50

var _ authv1.AgentServiceServer = (*agentServer)(nil)

// agentServer is the AgentService.
type agentServer struct {
	authv1.UnsafeAgentServiceServer
	*Service
}

// CreateAgent makes an agent.
func (s *agentServer) CreateAgent(
	ctx context.Context, req *authv1.CreateAgentRequest,
) (*authv1.CreateAgentResponse, error) {
	account, err := accountOfCaller(ctx, "parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	d, err := newDraft(authz.FromContext(ctx), typed{
		email: req.GetEmail(), displayName: req.GetDisplayName(), role: req.GetRole(), password: req.GetPassword(),
	})
	if err != nil {
		return nil, err
	}
	r, err := s.store.newRequest(account, authv1.AgentService_CreateAgent_FullMethodName, req.GetRequestId(), req)
	if err != nil {
		return nil, err
	}
	answer := &authv1.CreateAgentResponse{}
	if found, err := s.store.answered(ctx, r, answer); err != nil || found {
		return answer, err
	}
	if err := s.store.checkFree(ctx, account, d); err != nil {
		return answer, s.store.unlessAnswered(ctx, r, answer, err)
	}
	if err := s.hashPassword(ctx, &d); err != nil {
		return nil, err
	}
	err = s.store.once(ctx, r, answer, func(ctx context.Context, tx *sqldb.Tx) error {
		made, err := insertDrafts(ctx, tx, account, []draft{d})
		if err != nil {
			return err
		}
		a, ok := made[d.id]
		if !ok {
			return errEmailTaken.WithField("email")
		}
		answer.Agent = a.toProto(newcomersPolicy())
		if err := inviteNewcomer(ctx, tx, authz.FromContext(ctx), a); err != nil {
			return err
		}
		return recordCreated(ctx, tx, authz.FromContext(ctx), a)
	})
	s.relay.Wake()
	return answer, err
}

// newcomersPolicy stands in for the account's policy where new agents are shown:
// without SSO they stand alike under every policy, so none has to be asked for.
func newcomersPolicy() enforcement.Policy { return enforcement.Policy{} }

// GetAgent returns an agent.
func (s *agentServer) GetAgent(ctx context.Context, req *authv1.GetAgentRequest) (*authv1.GetAgentResponse, error) {
	name, err := agentOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	a, err := selectAgent(ctx, s.store.db, name, "")
	if err != nil {
		return nil, err
	}
	p, err := s.policyOf(ctx, name.Account)
	if err != nil {
		return nil, err
	}
	return &authv1.GetAgentResponse{Agent: a.toProto(p)}, nil
}

// ListAgents returns the agents of an account in pages.
func (s *agentServer) ListAgents(
	ctx context.Context, req *authv1.ListAgentsRequest,
) (*authv1.ListAgentsResponse, error) {
	account, err := accountOfCaller(ctx, "parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	if _, err := selectAccount(ctx, s.store.db, account); err != nil {
		return nil, err
	}
	query, err := newAgentQuery(account, req.GetFilter(), req.GetQuery(), req.GetOrderBy())
	if err != nil {
		return nil, err
	}
	binding := pagetoken.Query{
		Method: authv1.AgentService_ListAgents_FullMethodName, Parent: resource.Account(account),
		Filter: req.GetFilter(), OrderBy: req.GetOrderBy(), Text: req.GetQuery(),
	}
	var from *agentCursor
	if req.GetPageToken() != "" {
		from = &agentCursor{}
		if err := s.pages.Decode(req.GetPageToken(), binding, from); err != nil {
			return nil, err
		}
	}
	p, err := s.policyOf(ctx, account)
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	found, total, err := s.store.list(ctx, query, p, from, size+1)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListAgentsResponse{TotalSize: int32(min(total, 1<<31-1))} //nolint:gosec // bounded here
	for _, a := range found[:min(size, len(found))] {
		resp.Agents = append(resp.Agents, a.toProto(p))
	}
	if len(found) > size {
		resp.NextPageToken, err = s.pages.Encode(binding, query.order.after(found[size-1]))
	}
	return resp, err
}
