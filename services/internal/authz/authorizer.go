package authz

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/mtls"
)

// Metadata keys that carry what is known about a call.
const (
	// AuthorizationKey carries `Bearer <token>`.
	AuthorizationKey = "authorization"
	// ClientAddressKey carries the address of the person behind the gateway. It is
	// believed from the gateway's certificate alone.
	ClientAddressKey = "twofold-client-address"
	// UserAgentKey carries what the person's software calls itself. It is for
	// people to recognize their devices by; nothing is decided on it.
	UserAgentKey = "twofold-user-agent"
	// SignInTokenKey carries the sign-in token of a browser, which the gateway
	// took from a cookie.
	SignInTokenKey = "twofold-sign-in-token" //nolint:gosec // a name, no credential
	// RequestIDKey carries the request id.
	RequestIDKey = "twofold-request-id"
)

// The identities that mean more than a name in an access option.
const (
	gatewayIdentity  = "gateway"
	operatorIdentity = "operator"
)

// maxBearer is far above the length of every token the suite issues.
const maxBearer = 1024

// SessionVerifier returns the person whose live session a token proves, or why
// it does not: UNAUTHENTICATED with the verdict's reason, or UNAVAILABLE. It must
// never take a sign-in token for a session.
type SessionVerifier func(ctx context.Context, token string) (*Person, error)

// Authorizer resolves callers and admits or refuses them.
type Authorizer struct {
	table    *Table
	verify   SessionVerifier
	operator [sha256.Size]byte
	hasToken bool
}

// NewAuthorizer returns an authorizer for the methods of a table. operatorToken
// may be empty: the operator then comes by certificate only. verify may be nil
// for a server none of whose methods admit people.
func NewAuthorizer(table *Table, verify SessionVerifier, operatorToken string) (*Authorizer, error) {
	if table == nil {
		return nil, errors.New("authz: no table")
	}
	if method := table.needsSessions(); verify == nil && method != "" {
		return nil, fmt.Errorf("authz: %s admits people, and nothing was given to verify their sessions", method)
	}
	return &Authorizer{
		table:    table,
		verify:   verify,
		operator: sha256.Sum256([]byte(operatorToken)),
		hasToken: operatorToken != "",
	}, nil
}

// Knows reports whether there is such a method.
func (a *Authorizer) Knows(fullMethod string) bool { return a.table.Access(fullMethod) != nil }

// Authorize returns who makes the call of ctx, or why the method does not admit
// them. With a refusal it returns the caller too when it is known who that is, so
// that what they tried can be told.
func (a *Authorizer) Authorize(ctx context.Context, fullMethod string) (*Caller, error) {
	access := a.table.Access(fullMethod)
	if access == nil {
		return nil, errs.New(codes.Unimplemented, errs.ReasonMethodUnknown, "There is no such method.")
	}
	caller := &Caller{}
	caller.Via, caller.ClientAddress = peerOf(ctx)
	if slices.Contains(access.GetCallers(), authzv1.Access_ANYONE) ||
		slices.Contains(access.GetCallers(), authzv1.Access_SIGN_IN_TOKEN) {
		return caller, nil
	}
	if err := a.identify(ctx, caller, access); err != nil {
		return nil, err
	}
	if !caller.admitted(access) {
		return caller, errs.New(codes.PermissionDenied, errs.ReasonCallerNotPermitted,
			"This kind of caller, or this role, may not call this method.")
	}
	return caller, nil
}

// identify fills in the caller's kind from the credentials the method looks at.
func (a *Authorizer) identify(ctx context.Context, caller *Caller, access *authzv1.Access) error {
	forPeople := slices.ContainsFunc(access.GetCallers(), func(c authzv1.Access_Caller) bool {
		return c != authzv1.Access_SERVICE
	})
	if forPeople {
		token, err := bearerOf(ctx)
		if err != nil {
			return err
		}
		if token != "" {
			return a.identifyBearer(ctx, caller, token)
		}
	}
	switch {
	case caller.Via == "":
		return errMissing
	case caller.Via == operatorIdentity:
		caller.Kind = KindOperator
	case caller.Via == gatewayIdentity && forPeople && !permits(access, gatewayIdentity):
		// The gateway speaks for whoever is behind it, and they sent nothing.
		return errMissing
	default:
		caller.Kind = KindService
	}
	return nil
}

func (a *Authorizer) identifyBearer(ctx context.Context, caller *Caller, token string) error {
	caller.bearer = token
	// Hashes are of equal length, so the comparison tells nothing about either.
	digest := sha256.Sum256([]byte(token))
	if a.hasToken && subtle.ConstantTimeCompare(digest[:], a.operator[:]) == 1 {
		caller.Kind = KindOperator
		return nil
	}
	if a.verify == nil {
		return errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "The token is not valid.")
	}
	person, err := a.verify(ctx, token)
	if refusal := errs.Forward(err); refusal != nil && refusal.Code() == codes.Unauthenticated {
		return refusal
	}
	if err != nil {
		return fmt.Errorf("authz: verify session: %w", err)
	}
	if person == nil {
		return errs.Internal(errors.New("authz: the verifier named no person"))
	}
	caller.Kind, caller.Person = KindPerson, person
	return nil
}

var errMissing = errs.New(codes.Unauthenticated, errs.ReasonCredentialsMissing,
	"The call carries no credentials that this method accepts.")

// bearerOf returns the token of the authorization metadata, or "".
func bearerOf(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, AuthorizationKey)
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > maxBearer ||
		strings.ContainsAny(token, " ,\t") {
		return "", errs.New(codes.Unauthenticated, errs.ReasonCredentialsMalformed,
			"The authorization is not one bearer token.")
	}
	return token, nil
}

// peerOf returns the identity of the process at the other end, and the address
// of the caller behind it.
func peerOf(ctx context.Context) (identity string, address netip.Addr) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", netip.Addr{}
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		identity = mtls.PeerIdentity(info.State)
	}
	if identity == gatewayIdentity {
		// Whatever it says, or nothing: its own address would make everybody
		// behind it look like one client.
		values := metadata.ValueFromIncomingContext(ctx, ClientAddressKey)
		if len(values) != 1 {
			return identity, netip.Addr{}
		}
		address, err := netip.ParseAddr(values[0])
		if err != nil {
			return identity, netip.Addr{}
		}
		return identity, address.Unmap().WithZone("")
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		address = tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return identity, address
}

// permits reports whether an access option names an identity as a service. What
// the platform may do, each of its teams may.
func permits(access *authzv1.Access, identity string) bool {
	services := access.GetServices()
	return slices.Contains(services, identity) || slices.Contains(services, AnyIdentity) ||
		mtls.OfPlatform(identity) && slices.Contains(services, mtls.Platform)
}

// VerifyAgain returns nil when the session that a call came with is still live,
// for calls that last. Callers who came without a session have nothing to verify.
func VerifyAgain(ctx context.Context, verify SessionVerifier) error {
	caller := FromContext(ctx)
	if caller.Kind != KindPerson {
		return nil
	}
	if _, err := verify(ctx, caller.bearer); err != nil {
		return errs.Forward(err)
	}
	return nil
}
