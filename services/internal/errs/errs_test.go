package errs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errCause = errors.New(`pq: password authentication failed for user "twofold"`)

// What leaves the process is the status; a cause in it would hand out addresses,
// table names and worse.
func TestGRPCStatus_carriesEverythingButTheCause(t *testing.T) {
	e := New(codes.InvalidArgument, ReasonInvalidField, "Too long.").
		WithField("display_name").WithViolation("email", "Missing.").
		WithMetadata("maxLength", "200").WithRetryAfter(3 * time.Second).WithCause(errCause)

	st := e.GRPCStatus()
	require.Equal(t, codes.InvalidArgument, st.Code())
	require.Equal(t, "Too long.", st.Message())
	require.NotContains(t, st.Proto().String(), "password authentication")
	require.Contains(t, e.Error(), "password authentication")
	require.ErrorIs(t, e, errCause)

	require.Len(t, st.Details(), 3)
	info, ok := st.Details()[0].(*errdetails.ErrorInfo)
	require.True(t, ok)
	require.Equal(t, Domain, info.GetDomain())
	require.Equal(t, ReasonInvalidField, info.GetReason())
	require.Equal(t, map[string]string{"maxLength": "200"}, info.GetMetadata())
	bad, ok := st.Details()[1].(*errdetails.BadRequest)
	require.True(t, ok)
	require.Len(t, bad.GetFieldViolations(), 2)
	require.Equal(t, "display_name", bad.GetFieldViolations()[0].GetField())
	require.Equal(t, "Too long.", bad.GetFieldViolations()[0].GetDescription())
	retry, ok := st.Details()[2].(*errdetails.RetryInfo)
	require.True(t, ok)
	require.Equal(t, 3*time.Second, retry.GetRetryDelay().AsDuration())
}

// An error that could not be encoded would reach the caller as another one,
// without a reason.
func TestGRPCStatus_invalidUTF8_stillEncodes(t *testing.T) {
	st := New(codes.NotFound, ReasonResourceNotFound, "no \xff").WithField("\xfe").WithMetadata("k", "\xfd").GRPCStatus()
	require.Len(t, st.Details(), 2)
	require.Equal(t, "no \uFFFD", st.Message())
}

func TestNew_codeOK_isStillAnError(t *testing.T) {
	require.Equal(t, codes.Internal, New(codes.OK, ReasonInternal, "x").GRPCStatus().Code())
}

// Errors are kept in variables and shared; one call's cause must not show up in
// another's.
func TestWith_copies(t *testing.T) {
	base := New(codes.NotFound, ReasonResourceNotFound, "No such agent.").WithMetadata("a", "1").WithField("x")
	changed := base.WithCause(errCause).WithMetadata("b", "2").WithField("y").WithMessage("other")
	require.NoError(t, base.Unwrap())
	require.Len(t, base.GRPCStatus().Details(), 2)
	require.Equal(t, "No such agent.", base.Message())
	require.Len(t, base.metadata, 1)
	require.Len(t, base.violations, 1)
	require.ErrorIs(t, changed, base)
	require.NotErrorIs(t, changed, New(codes.NotFound, ReasonInternal, ""))
}

func TestFrom(t *testing.T) {
	own := New(codes.Aborted, ReasonEtagMismatch, "Changed.")
	downstream := func(code codes.Code, reason string) error {
		return New(code, reason, "from downstream").GRPCStatus().Err()
	}
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
	}{
		{"ours", own, codes.Aborted, ReasonEtagMismatch},
		{"ours, wrapped", fmt.Errorf("update: %w", own), codes.Aborted, ReasonEtagMismatch},
		{"deadline", fmt.Errorf("q: %w", context.DeadlineExceeded), codes.DeadlineExceeded, ReasonDeadlineExceeded},
		{"canceled", context.Canceled, codes.Canceled, ReasonCanceled},
		{"callee unavailable", status.Error(codes.Unavailable, "dial 10.0.0.7"), codes.Unavailable, ReasonDependencyUnavailable},
		{"callee unavailable with a reason", downstream(codes.Unavailable, "SOME_REASON"), codes.Unavailable, "SOME_REASON"},
		{"callee too slow", downstream(codes.DeadlineExceeded, ReasonDeadlineExceeded), codes.Unavailable, ReasonDependencyUnavailable},
		{"callee canceled", status.Error(codes.Canceled, "going away"), codes.Unavailable, ReasonDependencyUnavailable},
		{"callee refuses us", downstream(codes.PermissionDenied, ReasonCallerNotPermitted), codes.Internal, ReasonInternal},
		{"callee finds nothing", downstream(codes.NotFound, ReasonResourceNotFound), codes.Internal, ReasonInternal},
		{"anything else", errCause, codes.Internal, ReasonInternal},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := From(test.err)
			require.Equal(t, test.code, e.Code())
			require.Equal(t, test.reason, e.Reason())
			require.NotContains(t, e.Message(), "10.0.0.7")
			require.ErrorIs(t, e, test.err, "the log needs the cause")
		})
	}
	require.Nil(t, From(nil))
}

func TestForward_passesARefusalMadeOnTheCallersBehalf(t *testing.T) {
	refusal := New(codes.ResourceExhausted, ReasonTooManyAttempts, "Wait.").
		WithRetryAfter(time.Minute).WithMetadata("k", "v").WithViolation("code", "Wrong.")
	e := Forward(fmt.Errorf("auth: %w", refusal.GRPCStatus().Err()))
	require.Equal(t, refusal.GRPCStatus().Proto().String(), e.GRPCStatus().Proto().String())

	require.Equal(t, ReasonInternal, Forward(status.Error(codes.NotFound, "not one of ours")).Reason())
	require.Equal(t, ReasonInternal, Forward(errCause).Reason())
	require.Nil(t, Forward(nil))
}

func TestReasonOf(t *testing.T) {
	e := New(codes.NotFound, ReasonResourceNotFound, "x")
	require.Equal(t, ReasonResourceNotFound, ReasonOf(fmt.Errorf("w: %w", e)))
	require.Equal(t, ReasonResourceNotFound, ReasonOf(fmt.Errorf("w: %w", e.GRPCStatus().Err())))
	require.Empty(t, ReasonOf(status.Error(codes.NotFound, "x")))
	require.Empty(t, ReasonOf(errCause))
	require.Empty(t, ReasonOf(nil))
}
