package session

import (
	"errors"

	"google.golang.org/grpc/codes"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

func errEndedByPolicy() error {
	return errs.New(codes.Unauthenticated, errs.ReasonSessionEndedByMFAPolicy,
		"Your account requires two-factor authentication, and the time to set it up is over. Sign in to set it up.")
}

func errRevoked() error {
	return errs.New(codes.Unauthenticated, errs.ReasonSessionRevoked, "This session was ended. Sign in again.")
}

func errExpired() error {
	return errs.New(codes.Unauthenticated, errs.ReasonSessionExpired, "This session has expired. Sign in again.")
}

func errLost() error {
	return errs.New(codes.Unauthenticated, errs.ReasonSessionStoreLost, "The session was lost on our side. Sign in again.")
}

func errUnknown() error {
	return errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "The token is not valid. Sign in.")
}

func errPolicyStale() error {
	return errs.New(codes.Aborted, errs.ReasonPolicyRevisionStale,
		"The account's policy changed during the sign-in. Decide again.")
}

func errVersionStale() error {
	return errs.New(codes.Aborted, errs.ReasonAgentVersionStale,
		"The agent's credentials changed during the sign-in. Begin the sign-in again.")
}

func errNotFound() error {
	return errs.New(codes.NotFound, errs.ReasonResourceNotFound, "There is no such resource.")
}

func invalidField(field, message string) error {
	return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, message).WithField(field)
}

// unavailable is the answer while nothing can be decided.
func unavailable(cause error) error { return errs.Unavailable(cause) }

// errEnded is why a session that was ended is over.
func errEnded(cause sessionv1.SessionsRevoked_Cause) error {
	if cause == sessionv1.SessionsRevoked_MFA_POLICY {
		return errEndedByPolicy()
	}
	return errRevoked()
}

// errReplacedChanged asks to read the session to replace again.
var errReplacedChanged = errors.New("session: the session to replace changed")

// errOvertaken is the answer when others kept changing the same thing.
func errOvertaken() error {
	return unavailable(errors.New("session: overtaken by other changes too often"))
}
