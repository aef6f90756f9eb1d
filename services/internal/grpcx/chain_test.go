package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
)

const anyone = "/" + probeService + "/Anyone"

// answer makes the probe's methods answer with an error.
func (h *harness) answer(err error) {
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		return nil, err
	}
}

// Whatever a handler returns, the caller gets one code and one reason, and the
// cause stays here.
func TestErrors_oneMapping(t *testing.T) {
	errStore := errors.New("store: connection refused")
	h := newHarness(t, func(c *grpcx.ServerConfig) {
		c.IsUnavailable = func(err error) bool { return errors.Is(err, errStore) }
	})
	conn := h.conn("")
	for _, test := range []struct {
		name string
		err  error
		want outcome
	}{
		{"ours", fmt.Errorf("x: %w", errs.New(codes.Aborted, errs.ReasonEtagMismatch, "Changed.")), outcome{codes.Aborted, errs.ReasonEtagMismatch}},
		{"the store", fmt.Errorf("x: %w", errStore), outcome{codes.Unavailable, errs.ReasonDependencyUnavailable}},
		{"a budget of our own", fmt.Errorf("redis: %w", context.DeadlineExceeded), outcome{codes.Unavailable, errs.ReasonDependencyUnavailable}},
		{"canceled by ourselves", context.Canceled, outcome{codes.Unavailable, errs.ReasonDependencyUnavailable}},
		{"callee away", status.Error(codes.Unavailable, "secret text"), outcome{codes.Unavailable, errs.ReasonDependencyUnavailable}},
		{"callee slow", status.Error(codes.DeadlineExceeded, "secret text"), outcome{codes.Unavailable, errs.ReasonDependencyUnavailable}},
		{"callee refuses", status.Error(codes.PermissionDenied, "secret text"), outcome{codes.Internal, errs.ReasonInternal}},
		{"anything", fmt.Errorf("secret text: %w", errDriver), outcome{codes.Internal, errs.ReasonInternal}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.answer(test.err)
			st := requireStatus(t, h.call(conn, "Anyone"), test.want.code, test.want.reason)
			require.NotContains(t, st.Proto().String(), "secret text")
			require.NotContains(t, st.Proto().String(), "relation")
		})
	}
	require.Contains(t, h.log.String(), "relation", "the cause is in the log")
	require.Equal(t, 1, strings.Count(h.log.String(), "relation"), "and only once")
}

func TestErrors_callersDeadlineAndCancellation(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	entered := make(chan struct{}, 1)
	h.probe.handle = func(ctx context.Context, _ *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, errors.New("driver: canceling statement") // as drivers say it
	}
	call := func(ctx context.Context) error {
		return conn.Invoke(ctx, anyone, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Equal(t, codes.DeadlineExceeded, status.Code(call(ctx)))
	<-entered

	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	require.Equal(t, codes.Canceled, status.Code(call(ctx)))

	require.NoError(t, h.stop()) // waits for the handlers, and so for their log lines
	// A client whose time is over also hangs up, so either may be seen first.
	require.Regexp(t, "(DEADLINE_EXCEEDED|CANCELED)", h.log.String())
	require.Equal(t, 2, strings.Count(h.log.String(), "canceling statement"))
	require.NotContains(t, h.log.String(), "reason=INTERNAL")
}

func TestPanic_isAnInternalError(t *testing.T) {
	h := newHarness(t, nil)
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		panic("kaboom")
	}
	conn := h.conn("")
	st := requireStatus(t, h.call(conn, "Anyone"), codes.Internal, errs.ReasonInternal)
	require.NotContains(t, st.Proto().String(), "kaboom")
	require.Contains(t, h.log.String(), "kaboom")
	require.Contains(t, h.log.String(), "chain_test.go", "the log tells where")

	h.probe.stream = func(grpc.ServerStream) error { panic("kaboom in a stream") }
	stream := h.watch(conn)
	requireStatus(t, stream.RecvMsg(&sessionv1.ValidateSessionResponse{}), codes.Internal, errs.ReasonInternal)
	expected := "# HELP twofold_grpc_panics_total Calls that ended in a panic.\n# TYPE twofold_grpc_panics_total counter\n" +
		"twofold_grpc_panics_total{server=\"probe\"} 2\n"
	require.NoError(t, testutil.GatherAndCompare(h.metrics, strings.NewReader(expected), "twofold_grpc_panics_total"))
}

func (h *harness) watch(conn *grpc.ClientConn) grpc.ClientStream {
	ctx := metadata.AppendToOutgoingContext(h.t.Context(), "authorization", "Bearer agent-token")
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+probeService+"/Watch")
	require.NoError(h.t, err)
	return stream
}

func TestValidation(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	send := func(request any) error {
		return conn.Invoke(t.Context(), anyone, request, &sessionv1.ValidateSessionResponse{})
	}
	secret := strings.Repeat("hunter2", 100)
	st := requireStatus(t, send(&sessionv1.ValidateSessionRequest{Token: secret}), codes.InvalidArgument, errs.ReasonInvalidField)
	require.NotContains(t, st.Proto().String(), "hunter2", "values may be secrets")
	require.NotContains(t, h.log.String(), "hunter2")
	require.Equal(t, "token", fieldsOf(st)[0])

	unknown := &sessionv1.ValidateSessionRequest{}
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	st = requireStatus(t, send(unknown), codes.InvalidArgument, errs.ReasonUnknownField)
	require.Contains(t, st.Proto().String(), "number 99")

	// Strangers learn nothing from validation: they are refused before.
	err := conn.Invoke(t.Context(), "/"+probeService+"/Session", unknown, &sessionv1.ValidateSessionResponse{})
	requireStatus(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

func fieldsOf(st *status.Status) (fields []string) {
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	return fields
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (raw) Name() string                       { return "proto" }

func TestUndecodableRequests_haveAReason(t *testing.T) {
	h := newHarness(t, nil)
	reached := false
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		reached = true
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	conn := h.conn("")
	send := func(method string, data []byte) error {
		return conn.Invoke(t.Context(), "/"+probeService+"/"+method, &data, new([]byte), grpc.ForceCodec(raw{}))
	}
	noMessage := []byte{0x0a, 0xff}
	requireStatus(t, send("Anyone", noMessage), codes.InvalidArgument, errs.ReasonMalformedMessage)
	requireStatus(t, send("Anyone", []byte{0x0a, 0x01, 0xff}), codes.InvalidArgument, errs.ReasonMalformedMessage) // not UTF-8
	// gRPC answers this one before anybody else sees it; it is still counted.
	require.Equal(t, codes.ResourceExhausted, status.Code(send("Anyone", make([]byte, 5<<20))))
	require.Eventually(t, func() bool { return strings.Contains(h.log.String(), "reason=MESSAGE_TOO_LARGE") }, 10*time.Second, time.Millisecond)
	requireStatus(t, send("Service", noMessage), codes.Unauthenticated, errs.ReasonCredentialsMissing)
	require.False(t, reached)

	h.probe.stream = func(stream grpc.ServerStream) error { return stream.RecvMsg(&sessionv1.ValidateSessionRequest{}) }
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer agent-token")
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+probeService+"/Watch", grpc.ForceCodec(raw{}))
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(&noMessage))
	requireStatus(t, stream.RecvMsg(new([]byte)), codes.InvalidArgument, errs.ReasonMalformedMessage)
}

// CVE-2026-33186 was a path that authorization read differently than dispatch
// did. Nothing but the exact name of a method reaches anything.
func TestOddPaths_reachNoHandler(t *testing.T) {
	h := newHarness(t, nil)
	reached := false
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		reached = true
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	conn := h.conn("auth")
	for _, path := range []string{
		"//" + probeService + "/Service",
		"/" + probeService + "//Service",
		"/" + probeService + "/Service/",
		"/" + probeService + "/service",
		"/" + probeService + "/SERVICE",
		"/" + strings.ToUpper(probeService) + "/Service",
		"/" + probeService + "/%53ervice",
		"/" + probeService + "/Service?x=1",
		"/" + probeService + "/Service#x",
		"/" + probeService + "/./Service",
		"/" + probeService + "/../" + probeService + "/Service",
		"/x/" + probeService + "/Service",
		"/" + probeService + "/Service ",
		"/" + probeService + "/Nothing",
		"/no.such.Service/Method",
		"//",
	} {
		err := conn.Invoke(t.Context(), path, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{})
		requireStatus(t, err, codes.Unimplemented, errs.ReasonMethodUnknown)
	}
	// These do not get as far as the chain: gRPC itself turns them away.
	for _, path := range []string{
		probeService + "/Service", "/" + probeService, "/" + probeService + "%2fService", "/" + probeService + "%2FService", "/", "*",
	} {
		err := conn.Invoke(t.Context(), path, &sessionv1.ValidateSessionRequest{}, &sessionv1.ValidateSessionResponse{})
		require.Equal(t, codes.Unimplemented, status.Code(err), path)
	}
	require.False(t, reached)
	require.NoError(t, h.call(conn, "Service"))
	require.True(t, reached)

	// Whoever makes names up must not make metrics grow.
	families, err := h.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetCounter() != nil && m.GetCounter().GetValue() == 0 {
				continue // a fault that there was none of
			}
			for _, label := range m.GetLabel() {
				if label.GetName() == "method" {
					require.Contains(t, []string{"unknown", "/" + probeService + "/Service"}, label.GetValue())
				}
			}
		}
	}
}

func TestStream_passesTheSameChain(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	h.probe.stream = func(stream grpc.ServerStream) error {
		for {
			request := &sessionv1.ValidateSessionRequest{}
			if err := stream.RecvMsg(request); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			caller := authz.FromContext(stream.Context())
			if err := stream.SendMsg(&sessionv1.ValidateSessionResponse{Session: &sessionv1.Session{
				Agent: caller.Person.AgentName(), CreateTime: timestamppb.Now(),
			}}); err != nil {
				return err
			}
		}
	}
	stream, response := h.watch(conn), &sessionv1.ValidateSessionResponse{}
	require.NoError(t, stream.SendMsg(&sessionv1.ValidateSessionRequest{}))
	require.NoError(t, stream.RecvMsg(response))
	require.Equal(t, "accounts/acme/agents/a1", response.GetSession().GetAgent())
	require.NoError(t, stream.SendMsg(&sessionv1.ValidateSessionRequest{Token: strings.Repeat("x", 600)}))
	requireStatus(t, stream.RecvMsg(response), codes.InvalidArgument, errs.ReasonInvalidField)

	stream = h.watch(conn)
	require.NoError(t, stream.CloseSend())
	require.ErrorIs(t, stream.RecvMsg(response), io.EOF)

	nobody, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+probeService+"/Watch")
	require.NoError(t, err)
	requireStatus(t, nobody.RecvMsg(response), codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

// A stream may be open for hours, and must not make each stop take its full time.
func TestServe_stopEndsStreamsAndLetsCallsFinish(t *testing.T) {
	h := newHarness(t, func(c *grpcx.ServerConfig) { c.StopTimeout = time.Minute })
	conn := h.conn("")
	entered, release := make(chan struct{}), make(chan struct{})
	h.probe.stream = func(stream grpc.ServerStream) error {
		entered <- struct{}{}
		<-stream.Context().Done()
		close(release)
		return stream.Context().Err()
	}
	h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		entered <- struct{}{}
		<-release
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	stream := h.watch(conn)
	<-entered
	finished := make(chan error, 1)
	go func() { finished <- h.call(conn, "Anyone") }()
	<-entered
	require.NoError(t, h.stop())
	require.NoError(t, <-finished)
	requireStatus(t, stream.RecvMsg(&sessionv1.ValidateSessionResponse{}), codes.Unavailable, errs.ReasonDependencyUnavailable)
}

func TestServe_stopIsBounded(t *testing.T) {
	h := newHarness(t, func(c *grpcx.ServerConfig) { c.StopTimeout = 20 * time.Millisecond })
	entered, canceled := make(chan struct{}), make(chan struct{})
	h.probe.handle = func(ctx context.Context, _ *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		close(entered)
		<-ctx.Done()
		close(canceled)
		return nil, ctx.Err()
	}
	finished := make(chan error, 1)
	conn := h.conn("")
	go func() { finished <- h.call(conn, "Anyone") }()
	<-entered
	require.NoError(t, h.stop())
	<-canceled
	require.Error(t, <-finished)
}

// Calls say which call they are made for, so one id finds them all.
func TestRequestID_goesAlong(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	inner := ""
	h.probe.handle = func(ctx context.Context, request *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		if !request.GetTouch() {
			inner = authz.FromContext(ctx).RequestID
			return &sessionv1.ValidateSessionResponse{}, nil
		}
		response := &sessionv1.ValidateSessionResponse{}
		return response, conn.Invoke(ctx, anyone, &sessionv1.ValidateSessionRequest{}, response)
	}
	var header metadata.MD
	err := conn.Invoke(t.Context(), anyone, &sessionv1.ValidateSessionRequest{Touch: true}, &sessionv1.ValidateSessionResponse{}, grpc.Header(&header))
	require.NoError(t, err)
	require.Equal(t, []string{inner}, header.Get("twofold-request-id"))
	require.Len(t, inner, 36)
	require.Equal(t, 2, strings.Count(h.log.String(), "request_id="+inner))
}

func TestMetrics(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	require.NoError(t, h.call(conn, "Anyone"))
	require.Error(t, h.call(conn, "Session"))
	require.NoError(t, h.stop())
	families, err := h.metrics.Gather()
	require.NoError(t, err)
	calls := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "twofold_grpc_calls_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() { // by name: code, method, reason, server
				labels = append(labels, pair.GetValue())
			}
			calls[strings.Join(labels, " ")] = metric.GetCounter().GetValue()
		}
	}
	// An alert on an increase of faults sees the first one only if there was a zero before.
	faults := 0
	for series, count := range calls {
		if strings.HasPrefix(series, "Internal ") {
			require.Zero(t, count, series)
			delete(calls, series)
			faults++
		}
	}
	require.GreaterOrEqual(t, faults, len(probeMethods)+len(probeStreams))
	require.Equal(t, map[string]float64{
		"OK /twofold.probe.v1.ProbeService/Anyone  probe":                                  1,
		"Unauthenticated /twofold.probe.v1.ProbeService/Session CREDENTIALS_MISSING probe": 1,
	}, calls)
}
