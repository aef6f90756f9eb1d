package auth

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const defaultNotifyPageSize = 1000

// BatchGetAgents returns those of the agents that exist.
func (s *agentServer) BatchGetAgents(
	ctx context.Context, req *authv1.BatchGetAgentsRequest,
) (*authv1.BatchGetAgentsResponse, error) {
	account, ids, err := parseNames(req.GetNames())
	if err != nil {
		return nil, err
	}
	found, err := s.store.byID(ctx, account, ids)
	if err != nil {
		return nil, err
	}
	var p enforcement.Policy
	for _, a := range found {
		if dependsOnPolicy(a) {
			if p, err = s.policyOf(ctx, account); err != nil {
				return nil, err
			}
			break
		}
	}
	resp := &authv1.BatchGetAgentsResponse{}
	for _, id := range ids {
		if a, ok := found[id]; ok {
			resp.Agents = append(resp.Agents, a.toProto(p))
		}
	}
	return resp, nil
}

// parseNames returns the ids of agents of one account. Names that nobody can
// have are left out.
func parseNames(names []string) (account string, ids []string, err error) {
	for _, text := range names {
		name, err := resource.ParseAgent("names", text)
		switch {
		case errors.Is(err, resource.ErrNotFound):
			continue
		case err != nil:
			return "", nil, err
		case account != "" && name.Account != account:
			return "", nil, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The names are not all of one account.").
				WithField("names")
		}
		account = name.Account
		ids = append(ids, name.Agent)
	}
	return account, ids, nil
}

// ListAgentsToNotify returns the agents an enforcement's mail goes to.
func (s *agentServer) ListAgentsToNotify(
	ctx context.Context, req *authv1.ListAgentsToNotifyRequest,
) (*authv1.ListAgentsToNotifyResponse, error) {
	invalid := errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.")
	after := req.GetAfterAgentId()
	switch {
	case !resource.IsAccountID(req.GetAccount()):
		return nil, invalid.WithViolation("account", "It must be the bare id of an account.")
	case after != "" && !isAgentID(after):
		return nil, invalid.WithViolation("after_agent_id", "It must be the bare id of an agent, or empty.")
	case req.GetEnforceTime().CheckValid() != nil:
		return nil, invalid.WithViolation("enforce_time", "It must be a time.")
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultNotifyPageSize
	}
	found, err := s.store.notified(ctx, req.GetAccount(), microsUp(req.GetEnforceTime().AsTime()), req.GetApplyToSso(), after, size)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListAgentsToNotifyResponse{}
	for _, a := range found {
		resp.Recipients = append(resp.Recipients, &authv1.ListAgentsToNotifyResponse_Recipient{
			Agent: a.name().String(), Email: a.email, DisplayName: a.displayName,
		})
	}
	return resp, nil
}

// isAgentID reports whether id can be the bare id of an agent.
func isAgentID(id string) bool {
	_, err := resource.ParseAgent("", resource.AgentName{Account: "a", Agent: id}.String())
	return err == nil
}

// microsUp is the first whole microsecond that is not before t: a stored time is
// before the one exactly when it is before the other.
func microsUp(t time.Time) int64 {
	return t.Add(time.Microsecond - time.Nanosecond).UnixMicro()
}

// CountAgents counts an account's agents.
func (s *agentServer) CountAgents(
	ctx context.Context, req *authv1.CountAgentsRequest,
) (*authv1.CountAgentsResponse, error) {
	if !resource.IsAccountID(req.GetAccount()) {
		return nil, resource.ErrNotFound
	}
	if _, err := selectAccount(ctx, s.store.db, req.GetAccount()); err != nil {
		return nil, err
	}
	c, err := s.store.count(ctx, req.GetAccount(), req.GetApplyToSso())
	if err != nil {
		return nil, err
	}
	// Everybody there is was made before now, so those to be told are simply
	// those without a factor.
	return &authv1.CountAgentsResponse{Covered: c.covered, Enrolled: c.enrolled, ToNotify: c.covered - c.enrolled}, nil
}
