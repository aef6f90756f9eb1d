package auth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var errNotInvited = errs.New(codes.FailedPrecondition, errs.ReasonAgentNotInvited,
	"This agent is not waiting for an invitation.")

// inviteNewcomer invites an agent who was just made without a password; one who has
// a password needs no invitation.
func inviteNewcomer(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a agent) error {
	if a.state != stateInvited {
		return nil
	}
	return invite(ctx, tx, caller, a, a.createTime)
}

// invite promises an agent the mail of an invitation. Earlier ones are void.
func invite(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a agent, now time.Time) error {
	actor, err := actorOf(ctx, tx, caller)
	if err != nil {
		return err
	}
	event, err := agentEvent(a, now, &authv1.AgentInvited{
		Agent: a.name().String(), AgentVersion: a.version, InviteTime: timestamp(now), Actor: actor,
	})
	if err != nil {
		return err
	}
	if err := promiseLinks(ctx, tx, linkInvitation, event.ID, now, a.id); err != nil {
		return err
	}
	return outbox.Append(ctx, tx, event)
}

// ResendInvitation invites an agent again.
func (s *agentServer) ResendInvitation(
	ctx context.Context, req *authv1.ResendInvitationRequest,
) (*authv1.ResendInvitationResponse, error) {
	name, err := agentOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		locked, err := selectAgent(ctx, tx, name, tx.ForUpdate())
		if err != nil {
			return err
		}
		if a = locked; a.state != stateInvited {
			return errNotInvited
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if err := invite(ctx, tx, authz.FromContext(ctx), a, now); err != nil {
			return err
		}
		return recordAgent(ctx, tx, authz.FromContext(ctx), actionResendInvitation, a, nil)
	})
	if err != nil {
		return nil, err
	}
	s.relay.Wake()
	return &authv1.ResendInvitationResponse{Agent: a.toProto(newcomersPolicy())}, nil
}

// AcceptInvitation gives an invited agent a password.
func (s *signInServer) AcceptInvitation(
	ctx context.Context, req *authv1.AcceptInvitationRequest,
) (*authv1.AcceptInvitationResponse, error) {
	err := s.choosePassword(ctx, linkInvitation, req.GetToken(), req.GetPassword(), authv1.PasswordChanged_INVITATION)
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.AcceptInvitationResponse{}, nil
}
