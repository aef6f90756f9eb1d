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

// By returns a verifier that asks the session service.
func By(sessions sessionv1.SessionServiceClient) authz.SessionVerifier {
	return func(ctx context.Context, token string) (*authz.Person, error) {
		answer, err := sessions.ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: token, Touch: true})
		if err != nil {
			return nil, err
		}
		return authz.NewPerson(answer)
	}
}
