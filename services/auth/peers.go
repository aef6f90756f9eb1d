package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const (
	eventSource = "twofold/auth"

	// policyTimeout bounds how long a call waits for the policy service.
	policyTimeout = 2 * time.Second
	// endSessionsTimeout bounds how long an answer waits for sessions to end. The
	// event ends them as well.
	endSessionsTimeout = 2 * time.Second
	// answerMargin is what an answer gets of the caller's time to arrive in.
	answerMargin = 100 * time.Millisecond
)

// policyOf asks the policy service for an account's policy. Whatever goes wrong
// is UNAVAILABLE: without the policy nothing may be decided.
func (s *Service) policyOf(ctx context.Context, account string) (enforcement.Policy, error) {
	g, err := s.groundOf(ctx, account)
	return g.policy, err
}

// groundOf is policyOf for decisions that end in a session.
func (s *Service) groundOf(ctx context.Context, account string) (ground, error) {
	asked, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	answer, err := s.policies.GetMfaPolicy(asked, &policyv1.GetMfaPolicyRequest{
		Name: resource.Account(account) + "/mfaPolicy",
	})
	if err != nil {
		return ground{}, errs.Unavailable(fmt.Errorf("auth: read the policy of %s: %w", account, err))
	}
	p, err := policyFromProto(answer.GetMfaPolicy())
	if err != nil {
		return ground{}, errs.Unavailable(fmt.Errorf("auth: read the policy of %s: %w", account, err))
	}
	return newGround(account, answer.GetMfaPolicy(), p), nil
}

func policyFromProto(p *policyv1.MfaPolicy) (enforcement.Policy, error) {
	if p == nil {
		return enforcement.Policy{}, errors.New("the answer holds no policy")
	}
	read := enforcement.Policy{
		Settings: enforcement.Settings{
			Enforced:    p.GetEnforced(),
			GracePeriod: p.GetGracePeriod().AsDuration(),
			ApplyToSSO:  p.GetApplyToSso(),
		},
		Revision: p.GetRevision(),
	}
	if p.GetEnforced() {
		if err := p.GetEnforceTime().CheckValid(); err != nil {
			return enforcement.Policy{}, fmt.Errorf("the time of enforcement: %w", err)
		}
		read.EnforceTime = p.GetEnforceTime().AsTime()
	}
	return read, nil
}

// endSessions ends an agent's sessions below a version, except for the one named
// keep, if any. It is called after the commit that raised the version, whose
// event does the same should this fail. A caller who hangs up has raised the
// version all the same, so it goes on without them.
func (s *Service) endSessions(ctx context.Context, name resource.AgentName, version int64, keep string) error {
	return s.revokeSessions(ctx, &sessionv1.RevokeAgentSessionsRequest{
		Agent: name.String(), AgentVersion: version, KeepSession: keep,
	})
}

func (s *Service) revokeSessions(ctx context.Context, req *sessionv1.RevokeAgentSessionsRequest) error {
	until, hurried := ctx.Deadline()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endSessionsTimeout)
	defer cancel()
	if hurried {
		ctx, cancel = context.WithDeadline(ctx, until.Add(-answerMargin))
		defer cancel()
	}
	if _, err := s.sessions.RevokeAgentSessions(ctx, req); err != nil {
		return fmt.Errorf("auth: end the sessions of %s below version %d: %w", req.GetAgent(), req.GetAgentVersion(), err)
	}
	return nil
}

// agentEvent is an event about an agent; its version is the agent's.
func agentEvent(a agent, at time.Time, payload proto.Message) (events.Event, error) {
	return newEvent(a.name().String(), a.account, a.version, at, payload)
}

func newEvent(subject, account string, version int64, at time.Time, payload proto.Message) (events.Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return events.Event{}, fmt.Errorf("auth: event id: %w", err)
	}
	return events.Event{
		ID: id.String(), Source: eventSource, Subject: subject, Account: account,
		Version: version, Time: at, Payload: payload,
	}, nil
}

// actorOf is the caller as events name them, for people with what they are called.
func actorOf(ctx context.Context, q querier, caller *authz.Caller) (*eventv1.Actor, error) {
	switch caller.Kind {
	case authz.KindPerson:
		name := resource.AgentName{Account: caller.Person.Account, Agent: caller.Person.Agent}
		a, err := selectAgent(ctx, q, name, "")
		if err != nil && !errors.Is(err, resource.ErrNotFound) {
			return nil, err
		}
		return &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: name.String(), DisplayName: a.displayName}, nil
	case authz.KindOperator:
		return &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}, nil
	case authz.KindService:
		return &eventv1.Actor{Kind: eventv1.Actor_SERVICE, Name: caller.Via}, nil
	case authz.KindAnonymous:
	}
	return &eventv1.Actor{}, nil
}
