package auth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var (
	// errJustChanged is not said to be the end of the session: it may be the one
	// that stays.
	errJustChanged = errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable,
		"Your account has just been changed elsewhere. Try again in a moment.")
	errStepUpRequired = errs.New(codes.PermissionDenied, errs.ReasonStepUpRequired,
		"Verify your second factor first, with me:verifyFactor, and repeat this with the new session.")
	errFactorNotSetUp = errs.New(codes.FailedPrecondition, errs.ReasonFactorNotSetUp,
		"Two-factor authentication is not set up. Set it up first.")
	errLastFactor = errs.New(codes.FailedPrecondition, errs.ReasonLastFactorProtected,
		"Your account requires two-factor authentication, so you can replace your second factor but not remove it.")
	errOthersLeft = errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable,
		"The factor was removed, but your other sessions could not be ended yet. They will be as soon as possible.")
)

var _ authv1.ProfileServiceServer = (*profileServer)(nil)

// profileServer is the ProfileService.
type profileServer struct {
	authv1.UnsafeProfileServiceServer
	*Service
}

// maxAhead is how far the clock that stamps verified factors may be ahead of ours.
const maxAhead = time.Minute

// isFresh reports whether the person verified a factor in this session a short
// while ago. It compares the process clocks of two services.
func (s *Service) isFresh(p *authz.Person) bool {
	age := s.now().Sub(p.FactorVerifyTime)
	return !p.FactorVerifyTime.IsZero() && age < s.cfg.FreshFactor && age > -maxAhead
}

func nameOf(p *authz.Person) resource.AgentName {
	return resource.AgentName{Account: p.Account, Agent: p.Agent}
}

// selectMe returns the agent of a session. An agent who is gone or deactivated has
// none, whatever the session service has heard of it yet.
func selectMe(ctx context.Context, q querier, p *authz.Person, lock string) (agent, error) {
	a, err := selectAgent(ctx, q, nameOf(p), lock)
	if errors.Is(err, resource.ErrNotFound) || err == nil && a.state == stateDeactivated {
		return agent{}, errSessionOver
	}
	return a, err
}

// lockMe is selectMe with the agent locked, and the time. A session of another
// version than the agent's may be one that was ended a moment ago, and the session
// service has not heard of it: it must not set up, verify or change anything.
func lockMe(ctx context.Context, tx *sqldb.Tx, p *authz.Person) (agent, time.Time, error) {
	a, err := selectMe(ctx, tx, p, tx.ForUpdate())
	if err != nil {
		return agent{}, time.Time{}, err
	}
	if p.AgentVersion != a.version {
		return agent{}, time.Time{}, errJustChanged
	}
	now, err := tx.Now(ctx)
	return a, now, err
}

// GetMe shows who is signed in.
func (s *profileServer) GetMe(ctx context.Context, _ *authv1.GetMeRequest) (*authv1.GetMeResponse, error) {
	resp, err := s.getMe(ctx, authz.FromContext(ctx).Person)
	return resp, unavailableUnless(ctx, err)
}

func (s *Service) getMe(ctx context.Context, p *authz.Person) (*authv1.GetMeResponse, error) {
	session, err := s.sessionOf(ctx)
	if err != nil {
		return nil, err
	}
	a, factors, err := s.store.selectMyFactors(ctx, p)
	if err != nil {
		return nil, err
	}
	_, left, err := selectCodes(ctx, s.store.db, a)
	if err != nil {
		return nil, err
	}
	policy, err := s.policyOf(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	resp := &authv1.GetMeResponse{
		Agent: a.toProto(policy), Session: session,
		RecoveryCodesLeft: int32(len(left)), //nolint:gosec // at most ten
		Enforcement:       &authv1.GetMeResponse_Enforcement{Enforced: policy.Covers(a.facts())},
	}
	if resp.GetEnforcement().GetEnforced() {
		resp.Enforcement.SessionRevokeTime = timestamppb.New(policy.SessionRevokeTime())
	}
	for _, f := range factors {
		resp.Factors = append(resp.Factors, f.toProto(a))
	}
	return resp, nil
}

// selectMyFactors reads an agent and their factors, again if they changed in
// between.
func (s *store) selectMyFactors(ctx context.Context, p *authz.Person) (a agent, factors []factor, err error) {
	for range maxDecisions {
		if a, err = selectMe(ctx, s.db, p, ""); err != nil {
			return agent{}, nil, err
		}
		if factors, err = selectFactors(ctx, s.db, a); !errors.Is(err, errFactorsDisagree) {
			break
		}
	}
	return a, factors, err
}

// sessionOf returns the session that makes the call, as it stands.
func (s *Service) sessionOf(ctx context.Context) (*sessionv1.Session, error) {
	var session *sessionv1.Session
	err := authz.VerifyAgain(ctx, func(ctx context.Context, token string) (*authz.Person, error) {
		answer, err := s.sessions.ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: token})
		session = answer.GetSession()
		return nil, err
	})
	if err != nil {
		if refusal := errs.From(err); isVerdict(refusal) {
			return nil, refusal
		}
		return nil, errs.Unavailable(err)
	}
	if session == nil {
		return nil, errs.Unavailable(errors.New("auth: the session service returned no session"))
	}
	session.Token, session.Current = "", true
	return session, nil
}

// VerifyFactor verifies a second factor in a session, which makes it fresh.
func (s *profileServer) VerifyFactor(
	ctx context.Context, req *authv1.VerifyFactorRequest,
) (*authv1.VerifyFactorResponse, error) {
	given, err := parseAnswer(req, req.GetAnswer())
	if err != nil {
		return nil, err
	}
	session, err := s.verifyFactor(ctx, authz.FromContext(ctx).Person, given)
	err = unavailableUnless(ctx, err)
	s.metrics.answered(given, err)
	if err != nil {
		return nil, err
	}
	return &authv1.VerifyFactorResponse{Session: session}, nil
}

func (s *Service) verifyFactor(ctx context.Context, p *authz.Person, given answer) (*sessionv1.Session, error) {
	ground, err := s.groundOf(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	var a agent
	correct := false
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		locked, now, err := lockMe(ctx, tx, p)
		if err != nil {
			return err
		}
		if a = locked; !a.hasFactor {
			return errFactorNotSetUp
		}
		correct, err = s.decide(ctx, tx, a, given, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !correct {
		return nil, errCodeIncorrect
	}
	s.relay.Wake()
	session, err := s.reissue(ctx, p.SessionName, a, ground)
	if err != nil {
		return nil, err
	}
	s.moveEnrollment(ctx, a, p.SessionName, session.GetName())
	return session, nil
}

// moveEnrollment lets a set-up that was begun in a session go on in the one that
// replaced it: the person was asked to verify the factor in the middle of it.
// Should it fail, they begin the set-up again.
func (s *Service) moveEnrollment(ctx context.Context, a agent, from, to string) {
	_, err := s.store.db.Exec(ctx, `UPDATE enrollments SET begun_by = ? WHERE agent_id = ? AND begun_by = ?`,
		begunBySession(to), a.id, begunBySession(from))
	if err != nil {
		s.log.WarnContext(ctx, "A set-up was not taken over into a new session",
			slog.String("agent", a.name().String()), slog.Any("error", err))
	}
}

// BeginEnrollment begins a set-up from the profile.
func (s *profileServer) BeginEnrollment(
	ctx context.Context, _ *authv1.BeginEnrollmentRequest,
) (*authv1.BeginEnrollmentResponse, error) {
	p := authz.FromContext(ctx).Person
	begun, err := s.newEnrollment(begunBySession(p.SessionName))
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		locked, now, err := lockMe(ctx, tx, p)
		if err != nil {
			return err
		}
		if a = locked; a.hasFactor && !s.isFresh(p) {
			return errStepUpRequired
		}
		begun.expireTime = now.Add(s.cfg.EnrollmentLifetime)
		return s.store.upsertEnrollment(ctx, tx, a, begun, now)
	})
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	shown, err := s.showEnrollment(a, begun)
	return &authv1.BeginEnrollmentResponse{Enrollment: shown}, unavailableUnless(ctx, err)
}

// ConfirmEnrollment finishes a set-up from the profile. The session is replaced by
// one that has seen the new factor; the agent's others end.
func (s *profileServer) ConfirmEnrollment(
	ctx context.Context, req *authv1.ConfirmEnrollmentRequest,
) (*authv1.ConfirmEnrollmentResponse, error) {
	code, err := totp.ParseCode(req.GetCode())
	if err != nil {
		return nil, atField("code", err)
	}
	codes, session, err := s.confirmEnrollment(ctx, authz.FromContext(ctx).Person, req.GetEnrollmentId(), code)
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.ConfirmEnrollmentResponse{
		RecoveryCodes: codes, Confirmation: setUpComplete(), Session: session,
	}, nil
}

func (s *Service) confirmEnrollment(
	ctx context.Context, p *authz.Person, enrollmentID string, code totp.Code,
) (codes []string, session *sessionv1.Session, err error) {
	ground, err := s.groundOf(ctx, p.Account)
	if err != nil {
		return nil, nil, err
	}
	var done *enrolled
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, now, err := lockMe(ctx, tx, p)
		if err != nil {
			return err
		}
		if a.hasFactor && !s.isFresh(p) {
			return errStepUpRequired
		}
		done, err = s.confirm(ctx, tx, a, confirmation{
			enrollmentID: enrollmentID, begunBy: begunBySession(p.SessionName), code: code, keepSession: p.SessionName,
		}, now)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if done == nil {
		return nil, nil, errCodeIncorrect
	}
	s.relay.Wake()
	// The new session first: it has the new version, so that ending those below
	// leaves it alone. Should this fail, the event still keeps the old one.
	session, err = s.reissue(ctx, p.SessionName, done.agent, ground)
	if err != nil {
		s.endSessionsOrLeaveItToTheEvent(ctx, done.agent, p.SessionName)
		return nil, nil, err
	}
	s.endSessionsOrLeaveItToTheEvent(ctx, done.agent, session.GetName())
	return done.codes, session, nil
}

// DeleteFactor removes a factor. The session that asks stays, but with the last
// factor it falls back to AAL1: otherwise an admin could go on to demand of others
// what they have no longer themselves. The policy is read before
// the transaction; one that begins to enforce in between asks this person for a
// new factor at the next sign-in.
func (s *profileServer) DeleteFactor(
	ctx context.Context, req *authv1.DeleteFactorRequest,
) (*authv1.DeleteFactorResponse, error) {
	p := authz.FromContext(ctx).Person
	a, err := s.deleteFactor(ctx, p, req.GetFactor())
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	s.relay.Wake()
	if err := s.revokeSessions(ctx, &sessionv1.RevokeAgentSessionsRequest{
		Agent: a.name().String(), AgentVersion: a.version, KeepSession: p.SessionName, LowerKept: !a.hasFactor,
	}); err != nil {
		return nil, errOthersLeft.WithCause(err)
	}
	return &authv1.DeleteFactorResponse{}, nil
}

func (s *Service) deleteFactor(ctx context.Context, p *authz.Person, id string) (changed agent, err error) {
	policy, err := s.policyOf(ctx, p.Account)
	if err != nil {
		return agent{}, err
	}
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, now, err := lockMe(ctx, tx, p)
		if err != nil {
			return err
		}
		factors, err := selectFactors(ctx, tx, a)
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(factors, func(f factor) bool { return f.id == id })
		last := known && len(factors) == 1
		switch {
		case len(factors) > 0 && !s.isFresh(p):
			return errStepUpRequired
		case !known:
			return resource.ErrNotFound
		case last && !policy.MayRemoveLastFactor(a.facts()):
			return errLastFactor
		}
		changed, err = removeFactor(ctx, tx, a, id, last, p.SessionName, now)
		return err
	})
	return changed, err
}

// removeFactor deletes a factor and, with the last one, what else depends on
// there being one. Whatever is in the making ends in any case.
func removeFactor(
	ctx context.Context, tx *sqldb.Tx, a agent, id string, last bool, keepSession string, now time.Time,
) (agent, error) {
	if last {
		if err := deleteFactors(ctx, tx, a.id); err != nil {
			return agent{}, err
		}
		a.hasFactor, a.mfaStateTime = false, now
	}
	if _, err := tx.Exec(ctx, `DELETE FROM factors WHERE agent_id = ? AND id = ?`, a.id, id); err != nil {
		return agent{}, storeError("remove a factor", err)
	}
	for _, table := range []string{"sign_ins", "enrollments"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE agent_id = ?`, a.id); err != nil {
			return agent{}, storeError("delete from "+table, err)
		}
	}
	a.version++
	a.updateTime = now
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	event, err := agentEvent(a, now, &authv1.FactorRemoved{
		Agent: a.name().String(), AgentVersion: a.version, Factor: factorName(a, id),
		RemoveTime: timestamp(now), KeepSession: keepSession, Last: last,
	})
	if err != nil {
		return agent{}, err
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return agent{}, err
	}
	return a, recordOwn(ctx, tx, actionRemoveFactor, a, details{"factor": id, "last": strconv.FormatBool(last)})
}

// RegenerateRecoveryCodes makes new recovery codes.
func (s *profileServer) RegenerateRecoveryCodes(
	ctx context.Context, _ *authv1.RegenerateRecoveryCodesRequest,
) (*authv1.RegenerateRecoveryCodesResponse, error) {
	p := authz.FromContext(ctx).Person
	var shown []string
	err := s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, now, err := lockMe(ctx, tx, p)
		switch {
		case err != nil:
			return err
		case !a.hasFactor:
			return errFactorNotSetUp
		case !s.isFresh(p):
			return errStepUpRequired
		}
		if shown, err = s.store.replaceCodes(ctx, tx, a, now); err != nil {
			return err
		}
		// What was guessed at is gone.
		if err := clearGuesses(ctx, tx, a.id, failedRecovery); err != nil {
			return err
		}
		return recordOwn(ctx, tx, actionRegenerateCodes, a, nil)
	})
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.RegenerateRecoveryCodesResponse{RecoveryCodes: shown}, nil
}
