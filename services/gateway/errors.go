package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

var (
	errTooLarge = errs.New(codes.ResourceExhausted, errs.ReasonMessageTooLarge, "The body is larger than 1 MiB.")
	errNoRoute  = errs.New(codes.Unimplemented, errs.ReasonMethodUnknown, "There is no such route.")
	errNoMethod = errs.New(codes.Unimplemented, errs.ReasonMethodUnknown, "This route has no such method.")
	errCrossing = errs.New(codes.PermissionDenied, errs.ReasonCrossOriginRefused,
		"A page of another origin may not make this call.")
	errUnreadable = errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request cannot be read.")
)

// refusal is the error to answer with: what the service said, or, for an error
// that began on the way there or back, what that means.
func refusal(ctx context.Context, err error) *errs.Error {
	var badPath *runtime.HTTPStatusError
	if errors.As(err, &badPath) {
		return errUnreadable.WithCause(err)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errs.New(codes.Canceled, errs.ReasonCanceled, "The caller gave up.").WithCause(err)
	}
	code := status.Code(err)
	if code == codes.DeadlineExceeded {
		// Callers of REST set no deadline. It was ours, and a part of the suite
		// that does not answer within it is one that cannot be reached.
		return errs.Unavailable(err)
	}
	if errs.ReasonOf(err) == "" {
		switch code {
		case codes.InvalidArgument: // of generated code, which quotes values
			return errUnreadable.WithCause(err)
		case codes.ResourceExhausted: // of gRPC
			return errs.New(codes.ResourceExhausted, errs.ReasonMessageTooLarge, "The message is too large.").WithCause(err)
		}
	}
	return errs.Forward(err)
}

// refuse answers with a google.rpc.Status as JSON.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, e *errs.Error) {
	httpStatus := runtime.HTTPStatusFromCode(e.Code())
	if e.Reason() == errs.ReasonMessageTooLarge {
		httpStatus = http.StatusRequestEntityTooLarge
	}
	s.refuseAs(w, r, e, httpStatus)
}

func (s *Service) refuseAs(w http.ResponseWriter, r *http.Request, e *errs.Error, httpStatus int) {
	st := e.GRPCStatus()
	h := w.Header()
	h.Del("Transfer-Encoding")
	h.Del("Trailer")
	h.Set("Content-Type", "application/json")
	if e.Code() == codes.Unauthenticated {
		h.Set("WWW-Authenticate", "Bearer")
	}
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.GetRetryDelay().AsDuration().Seconds()))))
		}
	}
	body, err := protojson.Marshal(st.Proto())
	if err != nil {
		s.log.ErrorContext(r.Context(), "Encode a refusal", "error", err)
		httpStatus, body = http.StatusInternalServerError, []byte(`{"code":13}`)
	}
	w.WriteHeader(httpStatus)
	if _, err := w.Write(body); err != nil { //nolint:gosec // JSON, labeled as such, that holds nothing a caller sent
		s.log.DebugContext(r.Context(), "Write a refusal", "error", err)
	}
}

func (s *Service) handleError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	e := refusal(ctx, err)
	s.logFailure(ctx, e, err)
	s.refuse(w, r, e)
}

// handleStreamError is for a stream that has begun; types rollouts and exports see
// to the others. A file is cut off: whoever gets it must not take it for whole.
func (s *Service) handleStreamError(ctx context.Context, err error) *status.Status {
	e := refusal(ctx, err)
	s.logFailure(ctx, e, err)
	var file *cutError
	if errors.As(err, &file) {
		panic(http.ErrAbortHandler)
	}
	return e.GRPCStatus()
}

// logFailure logs what no service has logged, because it never got there or gave
// no reason.
func (s *Service) logFailure(ctx context.Context, e *errs.Error, err error) {
	if errs.ReasonOf(err) != "" || e.Code() != codes.Internal && e.Code() != codes.Unavailable {
		return
	}
	rpc, _ := runtime.RPCMethod(ctx)
	s.log.WarnContext(ctx, "Call failed on its way", "method", rpc, "request_id", edgeOf(ctx).requestID, "error", err)
}

func (s *Service) handleRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusBadRequest:
		s.refuse(w, r, errUnreadable)
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", strings.Join(methodsOf(s.routes, r.URL.Path), ", "))
		s.refuseAs(w, r, errNoMethod, httpStatus)
	default:
		s.refuseAs(w, r, errNoRoute, http.StatusNotFound)
	}
}
