package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

var errInvalidCredentials = errs.New(codes.Unauthenticated, errs.ReasonInvalidCredentials,
	"Account, email address or password is wrong.")

var _ authv1.SignInServiceServer = (*signInServer)(nil)

// signInServer is the SignInService.
type signInServer struct {
	authv1.UnsafeSignInServiceServer
	*Service
}

// SignIn begins a sign-in with a password.
func (s *signInServer) SignIn(ctx context.Context, req *authv1.SignInRequest) (*authv1.SignInResponse, error) {
	guesser := s.store.newGuesser(req.GetAccount(), req.GetEmail(), authz.FromContext(ctx).ClientAddress)
	resp, err := s.signIn(ctx, req, guesser)
	err = unavailableUnless(ctx, err)
	s.metrics.signedIn(enforcement.Password, resp, err)
	return resp, err
}

// signIn decides, and decides again from the start when it learns that agent or
// policy changed meanwhile.
func (s *signInServer) signIn(ctx context.Context, req *authv1.SignInRequest, g guesser) (*authv1.SignInResponse, error) {
	client := clientOf(ctx, req.GetClient(), req.GetKeepMeLoggedIn())
	proven := "" // the hash of the password that is known to be right
	stale := errors.New("the password keeps changing")
	for range maxDecisions {
		c, err := s.store.credentials(ctx, req.GetAccount(), req.GetEmail())
		if err != nil {
			return nil, err
		}
		if proven == "" || c.hash != proven {
			if proven, err = s.provePassword(ctx, c, req.GetPassword(), g); err != nil {
				return nil, err
			}
			// Hashing takes long enough for things to change.
			continue
		}
		resp, err := s.afterFirstFactor(ctx, c.agent, enforcement.Password, client)
		if refusal := errs.From(err); refusal == nil || refusal.Code() != codes.Aborted {
			return resp, err
		}
		stale = err
	}
	return nil, errs.Unavailable(fmt.Errorf("auth: the sign-in was overtaken too often: %w", stale))
}

// credentials are an agent and the hash of their password. The zero credentials
// are nobody's.
type credentials struct {
	agent agent
	hash  string
}

// credentials returns those of whoever may sign in with a password, and for
// everybody else nobody's.
func (s *store) credentials(ctx context.Context, account, email string) (credentials, error) {
	key := "" // no agent has it; the database is asked all the same
	if parsed, err := address.Parse(email); err == nil && resource.IsAccountID(account) {
		key = parsed.Key()
	} else {
		account = ""
	}
	a, err := selectAgentByEmail(ctx, s.db, account, key, "")
	if err != nil && !errors.Is(err, resource.ErrNotFound) {
		return credentials{}, err
	}
	var hash string
	readErr := s.db.QueryRow(ctx, `SELECT hash FROM passwords WHERE agent_id = ?`, a.id).Scan(&hash)
	switch {
	case errors.Is(readErr, sqldb.ErrNoRows) || a.state != stateActive || !a.hasPassword:
		return credentials{}, nil
	case readErr != nil:
		return credentials{}, storeError("read a password", readErr)
	}
	return credentials{agent: a, hash: hash}, nil
}

// provePassword returns the hash of the password if it is the right one, which is
// c's, or a new one made in its place. It takes as long for nobody's credentials.
func (s *Service) provePassword(ctx context.Context, c credentials, typed string, g guesser) (proven string, err error) {
	if _, err := s.store.checkPasswords(ctx, g); err != nil {
		return "", err
	}
	var ok, upgrade bool
	if c.hash == "" {
		err = s.passwords.VerifyUnknown(ctx, typed)
	} else {
		ok, upgrade, err = s.passwords.Verify(ctx, c.hash, typed)
	}
	switch {
	case errors.Is(err, password.ErrDamagedHash):
		return "", errs.Unavailable(fmt.Errorf("auth: password of %s: %w", c.agent.name(), err))
	case err != nil:
		return "", err
	case !ok:
		if err := s.store.countPassword(ctx, g); err != nil {
			return "", err
		}
		return "", errInvalidCredentials
	}
	// Others may have failed here meanwhile: a right guess beside them tells no
	// more than one after them.
	failed, err := s.store.checkPasswords(ctx, g)
	if err != nil {
		return "", err
	}
	if failed > 0 {
		if err := s.store.clearPasswords(ctx, g); err != nil {
			return "", err
		}
	}
	if upgrade {
		return s.upgradeHash(ctx, c, typed), nil
	}
	return c.hash, nil
}

// upgradeHash replaces a hash that was made elsewhere, or long ago, and returns
// the one that is stored now. What goes wrong waits for the next sign-in.
func (s *Service) upgradeHash(ctx context.Context, c credentials, typed string) string {
	fresh, err := s.passwords.Hash(ctx, typed)
	if err == nil {
		_, err = s.store.db.Exec(ctx, `UPDATE passwords SET hash = ? WHERE agent_id = ? AND hash = ?`,
			fresh, c.agent.id, c.hash)
	}
	if err != nil {
		s.log.InfoContext(ctx, "A password hash was not upgraded",
			slog.String("agent", c.agent.name().String()), slog.Any("error", err))
		return c.hash
	}
	return fresh
}

// afterFirstFactor takes the step that the rule wants after a right first factor.
// ABORTED means that what it stood on has changed.
func (s *Service) afterFirstFactor(
	ctx context.Context, a agent, first enforcement.FirstFactor, client client,
) (*authv1.SignInResponse, error) {
	ground, err := s.groundOf(ctx, a.account)
	if err != nil {
		return nil, err
	}
	if err := checkFactors(ctx, s.store.db, a); errors.Is(err, errFactorsDisagree) {
		return nil, errOvertaken.WithCause(err)
	} else if err != nil {
		return nil, err
	}
	step := ground.policy.NextStep(a.facts(), first)
	if step == enforcement.StepSession {
		session, err := s.makeSession(ctx, newSession{
			agent: a, level: sessionv1.Session_AAL1, firstFactor: firstFactorToProto(first), client: client,
		}, ground)
		if err != nil {
			return nil, err
		}
		return &authv1.SignInResponse{Outcome: &authv1.SignInResponse_Session{Session: session}}, nil
	}
	waitsFor := stepChallenge
	if step == enforcement.StepEnroll {
		waitsFor = stepEnrollment
	}
	token, in, methods, err := s.openSignIn(ctx, a, waitsFor, first, client)
	if err != nil {
		return nil, err
	}
	if waitsFor == stepChallenge {
		return &authv1.SignInResponse{Outcome: &authv1.SignInResponse_Challenge_{Challenge: &authv1.SignInResponse_Challenge{
			SignInToken: token, ExpireTime: timestamppb.New(in.expireTime), Methods: methods,
		}}}, nil
	}
	account, err := selectAccount(ctx, s.store.db, a.account)
	if err != nil {
		return nil, err
	}
	return &authv1.SignInResponse{Outcome: &authv1.SignInResponse_EnrollmentRequired_{
		EnrollmentRequired: &authv1.SignInResponse_EnrollmentRequired{
			SignInToken: token, ExpireTime: timestamppb.New(in.expireTime), Methods: methods, Prompt: setUpRequired(client.kind),
			AccountDisplayName: account.displayName, EnforceTime: ground.sent.GetEnforceTime(),
		},
	}}, nil
}

func firstFactorToProto(first enforcement.FirstFactor) sessionv1.Session_FirstFactor {
	return sessionv1.Session_FirstFactor(sessionv1.Session_FirstFactor_value[string(first)])
}

// errOvertaken asks to decide again; it stays inside the service.
var errOvertaken = errs.New(codes.Aborted, errs.ReasonAgentVersionStale, "The agent changed during the sign-in.")

// openSignIn keeps a sign-in that waits for a step, and returns its token and
// what may answer it.
func (s *Service) openSignIn(
	ctx context.Context, decided agent, step signInStep, first enforcement.FirstFactor, client client,
) (token string, in signIn, methods []authv1.Factor_Type, err error) {
	token = newSignInToken()
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		a, err := selectAgentByID(ctx, tx, decided.id, tx.ForUpdate())
		if errors.Is(err, resource.ErrNotFound) {
			return errOvertaken.WithCause(err)
		}
		if err != nil {
			return err
		}
		if a.version != decided.version || a.state != stateActive || a.hasFactor != decided.hasFactor {
			return errOvertaken
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		methods = []authv1.Factor_Type{authv1.Factor_TOTP}
		if step == stepChallenge {
			_, left, err := selectCodes(ctx, tx, a)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				methods = append(methods, authv1.Factor_RECOVERY_CODE)
			}
		}
		in = signIn{
			id: signInID(token), agentID: a.id, agentVersion: a.version, step: step,
			firstFactor: firstFactorToProto(first), client: client, expireTime: now.Add(s.cfg.SignInLifetime),
		}
		return insertSignIn(ctx, tx, in, now)
	})
	return token, in, methods, err
}

// VerifySignIn answers a challenge. The answer is used up and the sign-in over in
// one transaction; the session is made after it. Should that fail, the answer is
// UNAVAILABLE and the person begins again with the password.
func (s *signInServer) VerifySignIn(
	ctx context.Context, req *authv1.VerifySignInRequest,
) (*authv1.VerifySignInResponse, error) {
	given, err := parseAnswer(req, req.GetAnswer())
	if err != nil {
		return nil, err
	}
	id, err := signInOfCall(ctx, req.GetSignInToken())
	if err != nil {
		return nil, err
	}
	session, err := s.verifySignIn(ctx, id, given)
	err = unavailableUnless(ctx, err)
	s.metrics.answered(given, err)
	if err != nil {
		return nil, err
	}
	return &authv1.VerifySignInResponse{Session: session}, nil
}

func (s *Service) verifySignIn(ctx context.Context, id string, given answer) (*sessionv1.Session, error) {
	ground, err := s.groundOfSignIn(ctx, id)
	if err != nil {
		return nil, err
	}
	var n newSession
	correct := false
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		in, a, now, err := lockSignIn(ctx, tx, id, stepChallenge)
		if err != nil {
			return err
		}
		n = newSession{agent: a, firstFactor: in.firstFactor, client: in.client}
		if correct, err = s.decide(ctx, tx, a, given, now); err != nil {
			return err
		}
		if !correct {
			return countSignInFailure(ctx, tx, in)
		}
		return deleteSignIn(ctx, tx, id)
	})
	if err != nil {
		return nil, err
	}
	if !correct {
		return nil, errCodeIncorrect
	}
	s.relay.Wake()
	return s.makeVerifiedSession(ctx, n, ground)
}

// groundOfSignIn reads the policy before anything is used up, so that an outage
// costs nobody their code.
func (s *Service) groundOfSignIn(ctx context.Context, id string) (ground, error) {
	in, err := selectSignIn(ctx, s.store.db, id)
	if err != nil {
		return ground{}, err
	}
	return s.groundOf(ctx, in.account)
}

// BeginSignInEnrollment begins the set-up that a sign-in requires.
func (s *signInServer) BeginSignInEnrollment(
	ctx context.Context, req *authv1.BeginSignInEnrollmentRequest,
) (*authv1.BeginSignInEnrollmentResponse, error) {
	id, err := signInOfCall(ctx, req.GetSignInToken())
	if err != nil {
		return nil, err
	}
	begun, err := s.newEnrollment(begunBySignIn(id))
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	var a agent
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		in, locked, now, err := lockSignIn(ctx, tx, id, stepEnrollment)
		if err != nil {
			return err
		}
		a = locked
		// It is of no use without the sign-in, so it does not promise to last longer.
		begun.expireTime = earlier(now.Add(s.cfg.EnrollmentLifetime), in.expireTime)
		return s.store.upsertEnrollment(ctx, tx, a, begun, now)
	})
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	shown, err := s.showEnrollment(a, begun)
	return &authv1.BeginSignInEnrollmentResponse{Enrollment: shown}, unavailableUnless(ctx, err)
}

// ConfirmSignInEnrollment finishes the set-up and the sign-in. It does so also
// when enforcement was switched off since: the person wants a second factor now.
func (s *signInServer) ConfirmSignInEnrollment(
	ctx context.Context, req *authv1.ConfirmSignInEnrollmentRequest,
) (*authv1.ConfirmSignInEnrollmentResponse, error) {
	code, err := totp.ParseCode(req.GetCode())
	if err != nil {
		return nil, atField("code", err)
	}
	id, err := signInOfCall(ctx, req.GetSignInToken())
	if err != nil {
		return nil, err
	}
	codes, session, err := s.confirmSignInEnrollment(ctx, id, req.GetEnrollmentId(), code)
	if err != nil {
		return nil, unavailableUnless(ctx, err)
	}
	return &authv1.ConfirmSignInEnrollmentResponse{
		RecoveryCodes: codes, Confirmation: setUpComplete(), Session: session,
	}, nil
}

func (s *Service) confirmSignInEnrollment(
	ctx context.Context, id, enrollmentID string, code totp.Code,
) (codes []string, session *sessionv1.Session, err error) {
	ground, err := s.groundOfSignIn(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	var n newSession
	var done *enrolled
	err = s.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		in, a, now, err := lockSignIn(ctx, tx, id, stepEnrollment)
		if err != nil {
			return err
		}
		done, err = s.confirm(ctx, tx, a, confirmation{
			enrollmentID: enrollmentID, begunBy: begunBySignIn(id), code: code,
		}, now)
		if err != nil || done == nil {
			return err
		}
		n = newSession{agent: done.agent, firstFactor: in.firstFactor, client: in.client}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if done == nil {
		return nil, nil, errCodeIncorrect
	}
	s.relay.Wake()
	s.endSessionsOrLeaveItToTheEvent(ctx, done.agent, "")
	session, err = s.makeVerifiedSession(ctx, n, ground)
	return done.codes, session, err
}
