package grpcx_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
)

// An observer learns of every call by somebody known, refused or not, before the
// caller has the answer; and of nobody else's.
func TestObserve(t *testing.T) {
	var told []grpcx.Observed
	var inContext *authz.Caller
	h := newHarness(t, func(c *grpcx.ServerConfig) {
		c.Register = append(c.Register, func(r grpc.ServiceRegistrar) {
			grpcx.Observe(r, probeService, func(ctx context.Context, call grpcx.Observed) {
				told = append(told, call)
				inContext = authz.FromContext(ctx)
				if call.Refusal == nil {
					panic("an observer that fails")
				}
			})
			grpcx.Observe(r, "twofold.other.v1.OtherService", func(context.Context, grpcx.Observed) { t.Error("not its call") })
		})
	})
	conn := h.conn("")
	person := []string{"authorization", "Bearer agent-token", authz.RequestIDKey, "req-1"}

	// Not admitted, and the request not yet looked at.
	require.Error(t, h.call(conn, "Admin", person...))
	require.Len(t, told, 1)
	require.Equal(t, "/"+probeService+"/Admin", told[0].Method)
	require.Equal(t, "a1", told[0].Caller.Person.Agent)
	require.Equal(t, "req-1", told[0].Caller.RequestID)
	require.Equal(t, errs.ReasonCallerNotPermitted, told[0].Refusal.Reason())
	require.IsType(t, &sessionv1.ValidateSessionRequest{}, told[0].Request)
	require.Same(t, told[0].Caller, inContext)

	// Nobody, and somebody who is not believed.
	require.Error(t, h.call(conn, "Admin"))
	require.Error(t, h.call(conn, "Admin", "authorization", "Bearer over-token"))
	require.Len(t, told, 1)

	// Refused by the handler, and not refused.
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		return nil, errs.New(codes.NotFound, errs.ReasonResourceNotFound, "No.")
	}
	require.Error(t, h.call(conn, "Session", person...))
	require.Len(t, told, 2)
	require.Equal(t, errs.ReasonResourceNotFound, told[1].Refusal.Reason())
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	require.NoError(t, h.call(conn, "Session", person...))
	require.Len(t, told, 3)
	require.Nil(t, told[2].Refusal)
	require.Contains(t, h.log.String(), "an observer that fails")

	// What is no message of the method's is not handed on.
	noMessage := []byte{0x0a, 0xff}
	err := h.conn("operator").Invoke(t.Context(), "/"+probeService+"/Operator", &noMessage, new([]byte), grpc.ForceCodec(raw{}))
	requireStatus(t, err, codes.InvalidArgument, errs.ReasonMalformedMessage)
	require.Len(t, told, 4)
	require.Nil(t, told[3].Request)
	require.Equal(t, authz.KindOperator, told[3].Caller.Kind)
}
