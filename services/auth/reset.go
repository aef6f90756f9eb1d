package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var (
	errResetSelf = errs.New(codes.FailedPrecondition, errs.ReasonCannotResetSelf,
		"Nobody resets their own two-factor authentication. Ask another admin.")
	// errSessionsLeft answers UNAVAILABLE though the reset is stored: an OK would
	// promise that no session is left. The event will end them.
	errSessionsLeft = errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable,
		"Two-factor authentication was reset, but the agent's sessions could not be ended yet. "+
			"They will be as soon as possible; repeating the reset does no harm.")
)

// ResetMfa takes an agent's second factor away, and ends their sessions before it
// answers. When the session service does not confirm that, the answer is
// UNAVAILABLE; the reset stays, and its event ends the sessions later. A repeated
// call, with the same request_id or not, ends them as well.
func (s *agentServer) ResetMfa(ctx context.Context, req *authv1.ResetMfaRequest) (*authv1.ResetMfaResponse, error) {
	name, err := agentOfCaller(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	caller := authz.FromContext(ctx)
	if caller.Kind == authz.KindPerson && caller.Person.Agent == name.Agent {
		return nil, errResetSelf
	}
	reason, err := cleanReason(req.GetReason())
	if err != nil {
		return nil, err
	}
	r, err := s.store.newRequest(name.Account, authv1.AgentService_ResetMfa_FullMethodName, req.GetRequestId(), req)
	if err != nil {
		return nil, err
	}
	p, err := s.policyToShow(ctx, name)
	if err != nil {
		return nil, err
	}
	answer := &authv1.ResetMfaResponse{}
	err = s.store.once(ctx, r, answer, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err := reset(ctx, tx, caller, name, reason)
		answer.Agent = a.toProto(p)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.relay.Wake()
	if err := s.endSessions(ctx, name, answer.GetAgent().GetVersion(), ""); err != nil {
		s.log.WarnContext(ctx, "Sessions not ended at once after a reset; the event will",
			slog.String("agent", name.String()), slog.Any("error", err))
		return nil, errSessionsLeft.WithCause(err)
	}
	return answer, nil
}

// policyToShow returns a policy under which the agent can be shown after a reset.
// It asks for the account's only when that makes a difference, so that losing a
// phone does not wait for another service.
func (s *Service) policyToShow(ctx context.Context, name resource.AgentName) (enforcement.Policy, error) {
	a, err := selectAgent(ctx, s.store.db, name, "")
	if err != nil {
		return enforcement.Policy{}, err
	}
	a.hasFactor = false
	if !dependsOnPolicy(a) {
		return enforcement.Policy{}, nil
	}
	return s.policyOf(ctx, name.Account)
}

// dependsOnPolicy reports whether how the agent is shown depends on the policy.
func dependsOnPolicy(a agent) bool {
	wide := enforcement.Policy{Settings: enforcement.Settings{ApplyToSSO: true}}
	return wide.MFAState(a.facts()) != enforcement.Policy{}.MFAState(a.facts())
}

// reset locks the agent and takes away what a second factor is made of. Without
// any of it the version is raised all the same, because sessions end.
func reset(
	ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, name resource.AgentName, reason string,
) (agent, error) {
	a, err := selectAgent(ctx, tx, name, tx.ForUpdate())
	if err != nil {
		return agent{}, err
	}
	if a.role == enforcement.RoleOwner && !isOwner(caller) {
		return agent{}, errOwnerRequired
	}
	if err := deleteFactors(ctx, tx, a.id); err != nil {
		return agent{}, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return agent{}, err
	}
	had := a.hasFactor
	if had {
		a.hasFactor, a.mfaStateTime = false, now
	}
	a.version++
	a.updateTime = now
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	if err := appendReset(ctx, tx, caller, a, reason, now); err != nil {
		return agent{}, err
	}
	return a, recordAgent(ctx, tx, caller, actionResetMFA, a, details{"reason": reason, "hadFactor": strconv.FormatBool(had)})
}

// deleteFactors deletes everything that is, or is about to become, a second
// factor of an agent, and every sign-in that is waiting for one.
func deleteFactors(ctx context.Context, tx *sqldb.Tx, agentID string) error {
	for _, table := range []string{"sign_ins", "enrollments", "recovery_codes", "factors", "factor_failures"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE agent_id = ?`, agentID); err != nil {
			return storeError("delete from "+table, err)
		}
	}
	return nil
}

func appendReset(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a agent, reason string, at time.Time) error {
	actor, err := actorOf(ctx, tx, caller)
	if err != nil {
		return err
	}
	event, err := agentEvent(a, at, &authv1.MFAReset{
		Agent: a.name().String(), AgentVersion: a.version, Reason: reason, ResetTime: timestamp(at), Actor: actor,
	})
	if err != nil {
		return fmt.Errorf("auth: event of a reset: %w", err)
	}
	return outbox.Append(ctx, tx, event)
}

// cleanReason returns the reason as the mail can carry it: one line of text.
func cleanReason(reason string) (string, error) {
	reason = strings.TrimSpace(reason)
	unusable := func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	}
	if strings.ContainsFunc(reason, unusable) {
		return "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The reason is not usable.").
			WithViolation("reason", "It must be one line of text without control characters.")
	}
	return reason, nil
}
