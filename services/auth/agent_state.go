package auth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var errDeactivated = errs.New(codes.FailedPrecondition, errs.ReasonAgentDeactivated,
	"This agent is deactivated. An admin can reactivate them.")

// DeactivateAgent keeps an agent out. Their sessions end before it answers (ASVS
// 7.4.2); when the session service does not confirm that, the answer is UNAVAILABLE,
// and a repeated call tries again.
func (s *agentServer) DeactivateAgent(
	ctx context.Context, req *authv1.DeactivateAgentRequest,
) (*authv1.DeactivateAgentResponse, error) {
	name, err := agentOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	caller := authz.FromContext(ctx)
	if isSelf(caller, name) {
		return nil, errChangeSelf
	}
	p, err := s.policyOfAgent(ctx, name)
	if err != nil {
		return nil, err
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err = deactivate(ctx, tx, caller, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.relay.Wake()
	if err := s.endSessionsAfterChange(ctx, a); err != nil {
		return nil, err
	}
	return &authv1.DeactivateAgentResponse{Agent: a.toProto(p)}, nil
}

func deactivate(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, name resource.AgentName) (agent, error) {
	if err := lockRoles(ctx, tx, name.Account); err != nil {
		return agent{}, err
	}
	a, err := selectAgent(ctx, tx, name, tx.ForUpdate())
	if err != nil {
		return agent{}, err
	}
	if a.role == enforcement.RoleOwner {
		if err := checkOwner(ctx, tx, caller); err != nil {
			return agent{}, err
		}
		if err := checkLastOwner(ctx, tx, a); err != nil {
			return agent{}, err
		}
	}
	if a.state == stateDeactivated {
		return a, nil
	}
	if err := endWhatIsOpen(ctx, tx, a.id); err != nil {
		return agent{}, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return agent{}, err
	}
	a.state, a.updateTime = stateDeactivated, now
	a.version++
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	if err := appendDeactivated(ctx, tx, caller, a, now); err != nil {
		return agent{}, err
	}
	return a, recordAgent(ctx, tx, caller, actionDeactivate, a, nil)
}

func appendDeactivated(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a agent, at time.Time) error {
	actor, err := actorOf(ctx, tx, caller)
	if err != nil {
		return err
	}
	event, err := agentEvent(a, at, &authv1.AgentDeactivated{
		Agent: a.name().String(), AgentVersion: a.version, DeactivateTime: timestamp(at), Actor: actor,
	})
	if err != nil {
		return err
	}
	return outbox.Append(ctx, tx, event)
}

// ReactivateAgent lets an agent in again who was deactivated. Others are left as
// they are.
func (s *agentServer) ReactivateAgent(
	ctx context.Context, req *authv1.ReactivateAgentRequest,
) (*authv1.ReactivateAgentResponse, error) {
	name, err := agentOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	p, err := s.policyOfAgent(ctx, name)
	if err != nil {
		return nil, err
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err = reactivate(ctx, tx, authz.FromContext(ctx), name)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.relay.Wake()
	return &authv1.ReactivateAgentResponse{Agent: a.toProto(p)}, nil
}

func reactivate(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, name resource.AgentName) (agent, error) {
	a, err := selectAgent(ctx, tx, name, tx.ForUpdate())
	if err != nil {
		return agent{}, err
	}
	if a.role == enforcement.RoleOwner {
		if err := checkOwner(ctx, tx, caller); err != nil {
			return agent{}, err
		}
	}
	if a.state != stateDeactivated {
		return a, nil
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return agent{}, err
	}
	a.state, a.updateTime = stateInvited, now
	if a.hasPassword || a.hasSSO {
		a.state = stateActive
	}
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	if a.state == stateInvited {
		// The earlier invitation was void from the day they were deactivated.
		if err := invite(ctx, tx, caller, a, now); err != nil {
			return agent{}, err
		}
	}
	return a, recordAgent(ctx, tx, caller, actionReactivate, a, details{"state": string(a.state)})
}
