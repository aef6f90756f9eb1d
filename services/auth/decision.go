package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	// sessionTimeout bounds how long a call waits for a session to be made.
	sessionTimeout = 2 * time.Second
	// maxDecisions bounds how often a sign-in is decided again because policy or
	// agent changed meanwhile. People do not change them that fast.
	maxDecisions = 5
)

// ground is the policy a decision stands on, as the rule reads it and as the
// session service gets to see it.
type ground struct {
	policy enforcement.Policy
	sent   *sessionv1.Enforcement
}

func newGround(account string, shown *policyv1.MfaPolicy, p enforcement.Policy) ground {
	sent := &sessionv1.Enforcement{
		Account: account, Revision: p.Revision, Enforced: p.Enforced, ApplyToSso: p.ApplyToSSO,
		UpdateTime: shown.GetUpdateTime(),
	}
	if p.Enforced {
		sent.EnforceTime = timestamppb.New(p.EnforceTime)
		sent.GracePeriod = durationpb.New(p.GracePeriod)
	}
	return ground{policy: p, sent: sent}
}

// newSession is a session to be made.
type newSession struct {
	agent       agent // as the decision saw it; its version goes with the session
	level       sessionv1.Session_AssuranceLevel
	firstFactor sessionv1.Session_FirstFactor
	client      client
}

// makeSession asks for a session, standing on g. This is the only place that
// does. ABORTED comes back as it is: what was decided no longer stands.
func (s *Service) makeSession(ctx context.Context, n newSession, g ground) (*sessionv1.Session, error) {
	asked, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	made, err := s.sessions.CreateSession(asked, &sessionv1.CreateSessionRequest{
		Agent:          n.agent.name().String(),
		AgentVersion:   n.agent.version,
		Enforcement:    g.sent,
		AssuranceLevel: n.level,
		FirstFactor:    n.firstFactor,
		Role:           sessionv1.Session_Role(sessionv1.Session_Role_value[string(n.agent.role)]),
		HasPassword:    n.agent.hasPassword,
		Client: &sessionv1.Client{
			Kind: n.client.kind, UserAgent: n.client.userAgent, Address: n.client.address,
		},
		KeepMeLoggedIn: n.client.keepMeLoggedIn,
	})
	if err != nil {
		return nil, decideAgain(err)
	}
	if made.GetSession().GetToken() == "" {
		return nil, errs.Unavailable(fmt.Errorf("auth: make a session of %s: the answer holds none", n.agent.name()))
	}
	s.noteSignIn(ctx, n.agent, made.GetSession().GetCreateTime().AsTime())
	return made.GetSession(), nil
}

// makeVerifiedSession makes a session of somebody who has shown a second factor.
// No policy forbids that, so a newer one is only passed on. A newer agent version
// means that the factor, or the agent, is no longer what it was.
func (s *Service) makeVerifiedSession(ctx context.Context, n newSession, g ground) (*sessionv1.Session, error) {
	n.level = sessionv1.Session_AAL2
	session, err := s.makeSession(ctx, n, g)
	for range maxDecisions - 1 {
		if errs.ReasonOf(err) != errs.ReasonPolicyRevisionStale {
			break
		}
		if g, err = s.groundOf(ctx, n.agent.account); err != nil {
			return nil, err
		}
		session, err = s.makeSession(ctx, n, g)
	}
	switch errs.ReasonOf(err) {
	case errs.ReasonAgentVersionStale:
		return nil, errSignInExpired.WithCause(err)
	case errs.ReasonPolicyRevisionStale:
		return nil, errs.Unavailable(err)
	}
	return session, err
}

// reissue replaces a session by one that has just seen a second factor, with a
// new token and an agent version.
func (s *Service) reissue(ctx context.Context, name string, a agent, g ground) (*sessionv1.Session, error) {
	for range maxDecisions {
		asked, cancel := context.WithTimeout(ctx, sessionTimeout)
		answer, err := s.sessions.ReissueSession(asked, &sessionv1.ReissueSessionRequest{
			Name: name, AgentVersion: a.version, Enforcement: g.sent,
		})
		cancel()
		if err == nil {
			return answer.GetSession(), nil
		}
		switch refusal := errs.Forward(err); {
		case refusal.Reason() == errs.ReasonPolicyRevisionStale:
		case refusal.Reason() == errs.ReasonAgentVersionStale:
			return nil, errSessionOver.WithCause(err)
		case isVerdict(refusal):
			return nil, refusal
		default:
			return nil, errs.Unavailable(fmt.Errorf("auth: reissue a session: %w", err))
		}
		if g, err = s.groundOf(ctx, a.account); err != nil {
			return nil, err
		}
	}
	return nil, errs.Unavailable(fmt.Errorf("auth: the policy of %s keeps changing", a.account))
}

var errSessionOver = errs.New(codes.Unauthenticated, errs.ReasonSessionRevoked, "This session was ended. Sign in again.")

// isVerdict reports whether a refusal says that the session is over.
func isVerdict(refusal *errs.Error) bool {
	switch refusal.Reason() {
	case errs.ReasonSessionEndedByMFAPolicy, errs.ReasonSessionRevoked, errs.ReasonSessionExpired,
		errs.ReasonSessionStoreLost, errs.ReasonSessionUnknown:
		return refusal.Code() == codes.Unauthenticated
	}
	return false
}

// decideAgain is the session service's ABORTED: a newer policy or agent version is
// known than the decision stood on. Everything else that CreateSession refuses is
// a fault between us and it.
func decideAgain(err error) error {
	if refusal := errs.Forward(err); refusal.Code() == codes.Aborted {
		return refusal
	}
	return errs.Unavailable(fmt.Errorf("auth: ask for a session: %w", err))
}

// noteSignIn notes when somebody last signed in, for people to read. They are
// signed in whether or not that can be stored.
func (s *Service) noteSignIn(ctx context.Context, a agent, at time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer cancel()
	_, err := s.store.db.Exec(ctx, `UPDATE agents SET last_sign_in_time = ? WHERE id = ? AND last_sign_in_time < ?`,
		sqldb.Micros(at), a.id, sqldb.Micros(at))
	if err != nil {
		s.log.WarnContext(ctx, "A sign-in was not noted", slog.String("agent", a.name().String()), slog.Any("error", err))
	}
}
