package gateway

import (
	"context"
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

// decodingError is a request that cannot be read. The generated code turns it
// into text before anybody else sees it, so it marks its text as its own.
type decodingError struct{ reason, message string }

const decodingMark = "twofold-decoding"

func (e decodingError) Error() string {
	return strings.Join([]string{decodingMark, e.reason, e.message}, "|")
}

// refusal returns the error to answer with: the status of the service that
// refused, or, for an error that began on the way there, one with a reason.
func refusal(err error) *status.Status {
	st := status.Convert(err)
	for _, detail := range st.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			return st
		}
	}
	switch st.Code() {
	case codes.InvalidArgument:
		if _, text, found := strings.Cut(st.Message(), decodingMark+"|"); found {
			reason, message, _ := strings.Cut(text, "|")
			return errs.New(codes.InvalidArgument, reason, message).GRPCStatus()
		}
		return errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request cannot be read.").GRPCStatus()
	case codes.Canceled:
		return errs.New(codes.Canceled, errs.ReasonCanceled, "The caller gave up.").GRPCStatus()
	case codes.Unavailable, codes.DeadlineExceeded:
		return errs.Unavailable(err).GRPCStatus()
	case codes.ResourceExhausted:
		return errs.New(codes.ResourceExhausted, errs.ReasonMessageTooLarge, "The message is too large.").GRPCStatus()
	default:
		return errs.Internal(err).GRPCStatus()
	}
}

// writeRefusal answers with a google.rpc.Status as JSON.
func (s *Service) writeRefusal(w http.ResponseWriter, r *http.Request, st *status.Status, httpStatus int) {
	h := w.Header()
	h.Del("Transfer-Encoding")
	h.Del("Trailer")
	h.Set("Content-Type", "application/json")
	if st.Code() == codes.Unauthenticated {
		h.Set("WWW-Authenticate", "Bearer")
		s.cookies.forgetIfOver(w, r, st)
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
	if _, err := w.Write(body); err != nil {
		s.log.DebugContext(r.Context(), "Write a refusal", "error", err)
	}
}

func (s *Service) handleError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	st := refusal(err)
	s.writeRefusal(w, r, st, runtime.HTTPStatusFromCode(st.Code()))
}

func (s *Service) handleRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusBadRequest:
		s.writeRefusal(w, r, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The path cannot be read.").GRPCStatus(), httpStatus)
	case http.StatusMethodNotAllowed:
		s.writeRefusal(w, r, errs.New(codes.Unimplemented, errs.ReasonMethodUnknown, "This route has no such method.").GRPCStatus(), httpStatus)
	default:
		s.writeRefusal(w, r, errs.New(codes.NotFound, errs.ReasonMethodUnknown, "There is no such route.").GRPCStatus(), http.StatusNotFound)
	}
}

func handleStreamError(_ context.Context, err error) *status.Status { return refusal(err) }
