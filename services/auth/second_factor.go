package auth

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/recovery"
	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// answer is what somebody gives for a second factor: one of two.
type answer struct {
	code     totp.Code
	recovery recovery.Code
	kind     authv1.Factor_Type
}

// typedAnswer is the oneof of requests that answer.
type typedAnswer interface {
	GetTotpCode() string
	GetRecoveryCode() string
}

// parseAnswer reads an answer before anything else is looked at, so that what is
// no code is refused alike for everybody and counts as no guess.
func parseAnswer(req typedAnswer, given any) (answer, error) {
	switch given.(type) {
	case *authv1.VerifySignInRequest_TotpCode, *authv1.VerifyFactorRequest_TotpCode:
		code, err := totp.ParseCode(req.GetTotpCode())
		return answer{kind: authv1.Factor_TOTP, code: code}, atField("totp_code", err)
	case *authv1.VerifySignInRequest_RecoveryCode, *authv1.VerifyFactorRequest_RecoveryCode:
		code, err := recovery.Parse(req.GetRecoveryCode())
		return answer{kind: authv1.Factor_RECOVERY_CODE, recovery: code}, atField("recovery_code", err)
	default:
		return answer{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request holds no code.").
			WithViolation("totp_code", "Either it or recovery_code must be given.")
	}
}

// counters are those a wrong answer raises.
func (given answer) counters() []failureKind {
	if given.kind == authv1.Factor_RECOVERY_CODE {
		return []failureKind{failedFactor, failedRecovery}
	}
	return []failureKind{failedFactor}
}

// decide looks at an answer of an agent whose row the transaction has locked. A
// right one is used up and clears the counters. For a wrong one it returns
// correct=false without an error, having counted it: the transaction has to
// commit all the same. An error means that the guess was not looked at, and
// nothing has changed.
func (s *Service) decide(ctx context.Context, tx *sqldb.Tx, a agent, given answer, now time.Time) (correct bool, err error) {
	if err := checkGuesses(ctx, tx, a.id, now, given.counters()...); err != nil {
		return false, err
	}
	var wrong error
	switch given.kind {
	case authv1.Factor_RECOVERY_CODE:
		wrong, err = s.decideRecovery(ctx, tx, a, given.recovery, now)
	default:
		wrong, err = s.decideTOTP(ctx, tx, a, given.code, now)
	}
	switch {
	case err != nil:
		return false, err
	case wrong == nil:
		return true, clearGuesses(ctx, tx, a.id, given.counters()...)
	case errors.Is(wrong, totp.ErrReplayed):
		// Not a guess: whoever sends a code twice knew it, and a person who taps
		// twice must not be kept waiting for it.
		return false, nil
	default:
		return false, countGuesses(ctx, tx, a, now, given.counters()...)
	}
}

func (s *Service) decideTOTP(
	ctx context.Context, tx *sqldb.Tx, a agent, code totp.Code, now time.Time,
) (wrong, err error) {
	factors, err := selectFactors(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	wrong = totp.ErrIncorrect
	for _, f := range factors {
		secret, err := s.store.open(purposeFactor, a, f.id, f.secret)
		if err != nil {
			return nil, err
		}
		step, refusal, err := matchTOTP(secret, code, s.now(), f.lastStep)
		switch {
		case err != nil:
			return nil, err
		case errors.Is(refusal, totp.ErrReplayed):
			wrong = refusal
		case refusal == nil:
			used, err := consumeStep(ctx, tx, f.id, step, now)
			if err != nil || used {
				return nil, err
			}
			wrong = totp.ErrReplayed
		}
	}
	return wrong, nil
}

func (s *Service) decideRecovery(
	ctx context.Context, tx *sqldb.Tx, a agent, code recovery.Code, now time.Time,
) (wrong, err error) {
	if err := checkFactors(ctx, tx, a); err != nil {
		return nil, err
	}
	left, ok, err := s.store.consumeCode(ctx, tx, a, code)
	if err != nil {
		return nil, err
	}
	if !ok {
		return errCodeIncorrect, nil
	}
	event, err := agentEvent(a, now, &authv1.RecoveryCodeUsed{
		Agent: a.name().String(), AgentVersion: a.version,
		RecoveryCodesLeft: int32(left), UseTime: timestamp(now), //nolint:gosec // at most ten
	})
	if err != nil {
		return nil, err
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return nil, err
	}
	return nil, recordOwn(ctx, tx, actionUseCode, a, details{"recoveryCodesLeft": strconv.Itoa(left)})
}
