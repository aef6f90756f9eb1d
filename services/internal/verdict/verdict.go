// Package verdict asks the session service for the verdict on a token, for the
// servers that admit people. It owns nothing: the verdict is the session
// service's, what a person may call is package authz's. Nothing is kept between
// two calls, so a revocation that was answered holds at once.
package verdict

import (
	"context"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
)

// By returns a verifier that asks the session service about calls that begin: the
// session is in use, and so its idle limit starts anew.
func By(sessions sessionv1.SessionServiceClient) authz.SessionVerifier { return by(sessions, true) }

// Again returns a verifier for calls that last. That nobody hung up is no use of a
// session, so it leaves the idle limit as it is.
func Again(sessions sessionv1.SessionServiceClient) authz.SessionVerifier { return by(sessions, false) }

func by(sessions sessionv1.SessionServiceClient, touch bool) authz.SessionVerifier {
	return func(ctx context.Context, token string) (*authz.Person, error) {
		answer, err := sessions.ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: token, Touch: touch})
		if err != nil {
			return nil, err
		}
		return authz.NewPerson(answer)
	}
}
