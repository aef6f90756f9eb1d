package gateway_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

func TestErrors_ofServices_passThrough(t *testing.T) {
	s := newSuite(t)
	for _, c := range []struct {
		err        *errs.Error
		httpStatus int
	}{
		{errs.New(codes.InvalidArgument, errs.ReasonInvalidPageToken, "No."), http.StatusBadRequest},
		{errs.New(codes.FailedPrecondition, errs.ReasonAdminNotEnrolled, "No."), http.StatusBadRequest},
		{errs.New(codes.Unauthenticated, errs.ReasonInvalidCredentials, "No."), http.StatusUnauthorized},
		{errs.New(codes.PermissionDenied, errs.ReasonStepUpRequired, "No."), http.StatusForbidden},
		{errs.New(codes.NotFound, errs.ReasonResourceNotFound, "No."), http.StatusNotFound},
		{errs.New(codes.AlreadyExists, errs.ReasonEmailTaken, "No."), http.StatusConflict},
		{errs.New(codes.Aborted, errs.ReasonEtagMismatch, "No."), http.StatusConflict},
		{errs.New(codes.ResourceExhausted, errs.ReasonTooManyAttempts, "No."), http.StatusTooManyRequests},
		{errs.New(codes.Internal, errs.ReasonInternal, "No."), http.StatusInternalServerError},
		{errs.New(codes.Unavailable, errs.ReasonDependencyUnavailable, "No."), http.StatusServiceUnavailable},
	} {
		s.fail(authv1.ProfileService_GetMe_FullMethodName, c.err.WithField("page_token"))
		r := s.do(http.MethodGet, "/v1/me", "", bearer("agent")...)
		e := requireRefused(t, r, c.httpStatus, c.err.Code(), c.err.Reason())
		require.Equal(t, "No.", e.Message)
		require.Equal(t, "page_token", e.Details[1].FieldViolations[0].Field)
		if c.httpStatus == http.StatusUnauthorized {
			require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"))
		} else {
			require.Empty(t, r.Header.Get("WWW-Authenticate"))
		}
		require.Empty(t, r.Header.Get("Retry-After"))
		require.NotEmpty(t, r.Header.Get("Twofold-Request-Id"))
	}
}

func TestErrors_delay_isRetryAfter(t *testing.T) {
	s := newSuite(t)
	s.fail(authv1.SignInService_SignIn_FullMethodName,
		errs.New(codes.ResourceExhausted, errs.ReasonTooManyAttempts, "Wait.").WithRetryAfter(1200*time.Millisecond))
	r := s.do(http.MethodPost, "/v1/signIn", `{"account":"acme","email":"a@b.c","password":"p","client":"WEB"}`)
	e := requireRefused(t, r, http.StatusTooManyRequests, codes.ResourceExhausted, "TOO_MANY_ATTEMPTS")
	require.Equal(t, "2", r.Header.Get("Retry-After"), "never too early")
	require.Equal(t, "1.200s", e.Details[1].RetryDelay)
}

// The chain of the services decides who gets in; the gateway hands on what it
// was given.
func TestErrors_ofTheChain(t *testing.T) {
	s := newSuite(t)
	s.endSession("over")
	for _, c := range []struct {
		headers    []string
		httpStatus int
		code       codes.Code
		reason     string
	}{
		{nil, http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MISSING"},
		{bearer("nobody"), http.StatusUnauthorized, codes.Unauthenticated, "SESSION_UNKNOWN"},
		{bearer("over"), http.StatusUnauthorized, codes.Unauthenticated, "SESSION_REVOKED"},
		{[]string{"Authorization", "Basic YTpi"}, http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MALFORMED"},
		{append(bearer("admin"), bearer("agent")...), http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MALFORMED"},
		{bearer("agent"), http.StatusForbidden, codes.PermissionDenied, "CALLER_NOT_PERMITTED"},
	} {
		r := s.do(http.MethodGet, policyPath, "", c.headers...)
		requireRefused(t, r, c.httpStatus, c.code, c.reason)
	}
	require.Empty(t, s.taken())
}

func TestErrors_serviceDown_isUnavailableWithinTheTimeout(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.CallTimeout = 300 * time.Millisecond })
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/v1/me", "", bearer("agent")...).StatusCode)
	s.stops["auth"]()
	started := time.Now()
	r := s.do(http.MethodGet, "/v1/me", "", bearer("agent")...)
	requireRefused(t, r, http.StatusServiceUnavailable, codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
	require.Less(t, time.Since(started), 5*time.Second)
	require.NotContains(t, string(r.body), "bufconn")
	require.Contains(t, s.logged(), "ProfileService/GetMe", "nobody else knows that it failed")
	require.Contains(t, s.logged(), r.Header.Get("Twofold-Request-Id"))
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, policyPath, "", bearer("admin")...).StatusCode, "others are not concerned")
}

func TestErrors_serviceTooSlow_isUnavailable(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.CallTimeout = 100 * time.Millisecond })
	s.answerWith(authv1.ProfileService_GetMe_FullMethodName, func(ctx context.Context, _ proto.Message) (proto.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	r := s.do(http.MethodGet, "/v1/me", "", append(bearer("agent"), "Grpc-Timeout", "1H")...)
	requireRefused(t, r, http.StatusServiceUnavailable, codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
}

// The deadline was the gateway's, also when a service was the first to notice.
func TestErrors_deadlineSeenByTheService_isUnavailable(t *testing.T) {
	s := newSuite(t)
	s.fail(authv1.ProfileService_GetMe_FullMethodName, errs.New(codes.DeadlineExceeded, errs.ReasonDeadlineExceeded, "Too slow."))
	r := s.do(http.MethodGet, "/v1/me", "", bearer("agent")...)
	requireRefused(t, r, http.StatusServiceUnavailable, codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
}

// An import may hash a thousand passwords.
func TestErrors_importHasItsOwnTimeout(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.CallTimeout = 20 * time.Millisecond })
	var left time.Duration
	s.answerWith(authv1.AgentService_ImportAgents_FullMethodName, func(ctx context.Context, _ proto.Message) (proto.Message, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return &authv1.ImportAgentsResponse{}, nil
	})
	r := s.do(http.MethodPost, "/v1/accounts/acme/agents:import", `{"agents":[{"email":"a@b.c"}]}`, bearer("admin")...)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
	require.Greater(t, left, time.Minute)
}

// A status without a reason is no service's of the suite; its text stays here.
func TestErrors_withoutReason_tellNothing(t *testing.T) {
	s := newSuite(t)
	s.fail(authv1.ProfileService_GetMe_FullMethodName, status.Error(codes.DataLoss, "pq: hunter2"))
	r := s.do(http.MethodGet, "/v1/me", "", bearer("agent")...)
	requireRefused(t, r, http.StatusInternalServerError, codes.Internal, "INTERNAL")
	require.NotContains(t, string(r.body), "hunter2")
}
