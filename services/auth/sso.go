package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// SignInWithSSO begins a sign-in whose first factor the platform's login vouches
// for. What follows is the rule's: see the table in sso_test.go.
func (s *signInServer) SignInWithSSO(
	ctx context.Context, req *authv1.SignInWithSSORequest,
) (*authv1.SignInWithSSOResponse, error) {
	resp, err := s.signInWithSSO(ctx, req)
	err = unavailableUnless(ctx, err)
	s.metrics.signedIn(enforcement.SSO, resp, err)
	if err != nil {
		return nil, err
	}
	switch next := resp.GetOutcome().(type) {
	case *authv1.SignInResponse_Session:
		return &authv1.SignInWithSSOResponse{Outcome: &authv1.SignInWithSSOResponse_Session{Session: next.Session}}, nil
	case *authv1.SignInResponse_Challenge_:
		return &authv1.SignInWithSSOResponse{Outcome: &authv1.SignInWithSSOResponse_Challenge{Challenge: next.Challenge}}, nil
	case *authv1.SignInResponse_EnrollmentRequired_:
		return &authv1.SignInWithSSOResponse{Outcome: &authv1.SignInWithSSOResponse_EnrollmentRequired{
			EnrollmentRequired: next.EnrollmentRequired,
		}}, nil
	default:
		return nil, errs.Internal(fmt.Errorf("auth: a sign-in with the outcome %T", next))
	}
}

func (s *Service) signInWithSSO(ctx context.Context, req *authv1.SignInWithSSORequest) (*authv1.SignInResponse, error) {
	client, err := ssoClient(req)
	if err != nil {
		return nil, err
	}
	var stale error
	for range maxDecisions {
		a, err := s.store.recordSSO(ctx, req)
		if err != nil {
			return nil, err
		}
		resp, err := s.afterFirstFactor(ctx, a, enforcement.SSO, client)
		if refusal := errs.From(err); refusal == nil || refusal.Code() != codes.Aborted {
			return resp, err
		}
		stale = err
	}
	return nil, errs.Unavailable(fmt.Errorf("auth: the sign-in was overtaken too often: %w", stale))
}

// ssoClient is where the person is, in the platform's words: the call itself comes
// from the platform.
func ssoClient(req *authv1.SignInWithSSORequest) (client, error) {
	c := client{
		kind: req.GetClient(), userAgent: printable(req.GetUserAgent(), maxUserAgent), keepMeLoggedIn: req.GetKeepMeLoggedIn(),
	}
	if req.GetClientAddress() == "" {
		return c, nil
	}
	from, err := netip.ParseAddr(req.GetClientAddress())
	if err != nil {
		return client{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.").
			WithViolation("client_address", "It must be a network address.")
	}
	c.address = from.Unmap().WithZone("").String()
	return c, nil
}

// recordSSO notes that the identity provider vouched for an agent, and returns the
// agent. From the first time on the agent is one who comes by SSO; whoever was
// invited need not choose a password any more, and cannot by the old invitation.
func (s *store) recordSSO(ctx context.Context, req *authv1.SignInWithSSORequest) (a agent, err error) {
	parsed, err := address.Parse(req.GetEmail())
	if err != nil || !resource.IsAccountID(req.GetAccount()) {
		return agent{}, resource.ErrNotFound
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var err error
		if a, err = selectAgentByEmail(ctx, tx, req.GetAccount(), parsed.Key(), tx.ForUpdate()); err != nil {
			return err
		}
		if a.state == stateDeactivated {
			return errDeactivated
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if !a.hasSSO || a.state == stateInvited {
			if a, err = firstSSO(ctx, tx, a, now); err != nil {
				return err
			}
		}
		a.ssoTime, a.ssoAMR = now, strings.Join(req.GetAmr(), " ")
		_, err = tx.Exec(ctx, `UPDATE agents SET sso_time = ?, sso_amr = ? WHERE id = ?`, sqldb.Micros(now), a.ssoAMR, a.id)
		return storeError("record a sign-in by SSO", err)
	})
	return a, err
}

// firstSSO makes an agent one who comes by SSO. Sessions need not end: what an
// earlier one was exempt from, or not, does not depend on this.
func firstSSO(ctx context.Context, tx *sqldb.Tx, a agent, now time.Time) (agent, error) {
	if !a.hasFactor && !a.hasPassword {
		a.mfaStateTime = now // the identity provider's business from here on
	}
	a.hasSSO, a.state, a.updateTime = true, stateActive, now
	if err := voidLinks(ctx, tx, a.id); err != nil {
		return agent{}, err
	}
	if err := updateAgent(ctx, tx, a); err != nil {
		return agent{}, err
	}
	return a, recordAgent(ctx, tx, authz.FromContext(ctx), actionLinkSSO, a, nil)
}
