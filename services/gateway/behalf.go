package gateway

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

var errNoCredentials = errs.New(codes.Unauthenticated, errs.ReasonCredentialsMissing,
	"The call carries no credentials that this method accepts.")

// behalf is a connection for calls on behalf of REST callers. A call that needs
// credentials leaves only with the caller's: without any, a service that admits
// the gateway too would take it for the gateway's own and answer whatever it
// asks. This looks at what is really sent, not at the headers it came from.
type behalf struct {
	grpc.ClientConnInterface
	open map[string]bool // RPCs that look at no credentials
}

// Invoke implements grpc.ClientConnInterface.
func (c behalf) Invoke(ctx context.Context, method string, request, reply any, options ...grpc.CallOption) error {
	if !c.admits(ctx, method) {
		return errNoCredentials
	}
	return c.ClientConnInterface.Invoke(ctx, method, request, reply, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (c behalf) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	if !c.admits(ctx, method) {
		return nil, errNoCredentials
	}
	return c.ClientConnInterface.NewStream(ctx, desc, method, options...)
}

func (c behalf) admits(ctx context.Context, method string) bool {
	sent, _ := metadata.FromOutgoingContext(ctx)
	return c.open[method] || len(sent.Get(authz.AuthorizationKey)) > 0
}

// openRPCs returns the RPCs of routes that admit callers without credentials.
func openRPCs(routes map[routeKey]*route) map[string]bool {
	open := map[string]bool{}
	for _, r := range routes {
		open[r.rpc] = r.open
	}
	return open
}

// isOpen reports whether a method says that it looks at no credentials.
func isOpen(method protoreflect.MethodDescriptor) bool {
	access, ok := proto.GetExtension(method.Options(), authzv1.E_Access).(*authzv1.Access)
	return ok && (slices.Contains(access.GetCallers(), authzv1.Access_ANYONE) ||
		slices.Contains(access.GetCallers(), authzv1.Access_SIGN_IN_TOKEN))
}
