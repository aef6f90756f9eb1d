package errs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the domain of every ErrorInfo the suite sends.
const Domain = "twofold"

// Error is a refusal or a failure as a caller sees it, with its cause beside it
// for the log. Errors are values: every With method returns a changed copy, so
// a package may keep one in a variable and hand it out from many goroutines.
type Error struct {
	code       codes.Code
	reason     string
	message    string
	cause      error
	violations []violation
	metadata   map[string]string
	retryAfter time.Duration
}

// violation is one field at fault and what is wrong with it.
type violation struct{ field, description string }

// New returns an error with a standard code, a reason of reasons.go and a
// sentence for people. The sentence never repeats what the caller sent.
func New(code codes.Code, reason, message string) *Error {
	if code == codes.OK {
		// A status of OK is no error at all, so a slip here would let a failure
		// through as a success.
		code = codes.Internal
	}
	return &Error{code: code, reason: reason, message: message}
}

// Error returns the code's reason and message, and the cause behind them. It
// is for logs; what callers get is GRPCStatus.
func (e *Error) Error() string {
	text := e.reason + ": " + e.message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error of the same reason, so that
// errors.Is(err, ErrStaleEtag) holds for every copy of ErrStaleEtag.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error) // errors.Is unwraps; this compares one link of the chain
	return ok && t.reason == e.reason
}

// Code returns the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Reason returns the reason, one of reasons.go.
func (e *Error) Reason() string { return e.reason }

// Message returns the sentence for people.
func (e *Error) Message() string { return e.message }

// WithMessage returns a copy that says message.
func (e *Error) WithMessage(message string) *Error {
	c := e.copy()
	c.message = message
	return c
}

// WithCause returns a copy that wraps cause. The cause is logged, never sent.
func (e *Error) WithCause(cause error) *Error {
	c := e.copy()
	c.cause = cause
	return c
}

// WithField returns a copy that names a request field as being at fault, by its
// path (`agents[3].email`), with the error's message as the description.
func (e *Error) WithField(field string) *Error {
	return e.WithViolation(field, e.message)
}

// WithViolation returns a copy that names a request field as being at fault and
// says what is wrong with it.
func (e *Error) WithViolation(field, description string) *Error {
	c := e.copy()
	c.violations = append(c.violations, violation{field, description})
	return c
}

// WithRetryAfter returns a copy that tells the caller to wait d before trying
// again.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := e.copy()
	c.retryAfter = d
	return c
}

// WithMetadata returns a copy whose ErrorInfo carries one more fact. Keys are
// lowerCamelCase, as AIP-193 wants them.
func (e *Error) WithMetadata(key, value string) *Error {
	c := e.copy()
	if c.metadata == nil {
		c.metadata = map[string]string{}
	}
	c.metadata[key] = value
	return c
}

func (e *Error) copy() *Error {
	c := *e
	c.violations = slices.Clone(e.violations)
	c.metadata = maps.Clone(e.metadata)
	return &c
}

// GRPCStatus returns what the caller gets. The cause is not in it.
func (e *Error) GRPCStatus() *status.Status {
	info := &errdetails.ErrorInfo{Reason: valid(e.reason), Domain: Domain}
	for k, v := range e.metadata {
		if info.Metadata == nil {
			info.Metadata = map[string]string{}
		}
		info.Metadata[valid(k)] = valid(v)
	}
	details := []protoadapt.MessageV1{info}
	if len(e.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: valid(v.field), Description: valid(v.description), Reason: valid(e.reason),
			})
		}
		details = append(details, bad)
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	st := status.New(e.code, valid(e.message))
	full, err := st.WithDetails(details...)
	if err != nil {
		return st // only an OK status or invalid UTF-8 fails, and New and valid exclude both
	}
	return full
}

// valid replaces what is not UTF-8: a protobuf string that holds anything else
// cannot be sent, and the caller would get an error about the error.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// From returns the *Error for whatever a handler returned:
//
//   - an *Error anywhere in the chain is that error, with the whole chain as
//     its cause;
//   - an expired or canceled context is DEADLINE_EXCEEDED or CANCELED;
//   - the status of a downstream call that could not be made or did not answer
//     in time is UNAVAILABLE, with the callee's reason if it gave one. Its other
//     codes answer a question that our caller did not ask (a NOT_FOUND of a
//     session is no NOT_FOUND of an account), so they are our own INTERNAL; a
//     handler that asks on its caller's behalf uses [Forward];
//   - everything else is INTERNAL, and only the log learns more.
//
// From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		if direct, ok := err.(*Error); ok { //nolint:errorlint // asks whether anything is wrapped around it
			return direct
		}
		return own.WithCause(err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, ReasonDeadlineExceeded, "The call took longer than its deadline allows.").WithCause(err)
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, ReasonCanceled, "The call was canceled.").WithCause(err)
	}
	if st := statusOf(err); st != nil {
		switch st.Code() {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			return unavailable(st).WithCause(err)
		}
	}
	return Internal(err)
}

// unavailable is what a failed call to another service means to our caller.
func unavailable(st *status.Status) *Error {
	e := Unavailable(nil)
	if info, retry := details(st); st.Code() == codes.Unavailable && info != nil {
		e.reason, e.message, e.retryAfter = info.GetReason(), st.Message(), retry
	}
	return e
}

// Internal returns the error for a fault of ours.
func Internal(cause error) *Error {
	return New(codes.Internal, ReasonInternal, "Something went wrong on our side.").WithCause(cause)
}

// Unavailable returns the error for a store or service that cannot be reached.
// Nobody was let in for it; whether a change took effect may be open.
func Unavailable(cause error) *Error {
	return New(codes.Unavailable, ReasonDependencyUnavailable,
		"A part of the service is not reachable at the moment.").WithCause(cause)
}

// Forward returns the *Error for the status of a downstream call that was made
// on the caller's behalf and with the caller's own credentials: code, reason,
// message, fields and delay pass unchanged. A status without a reason of ours,
// and any other error, is treated as by [From].
func Forward(err error) *Error {
	st := statusOf(err)
	if st == nil {
		return From(err)
	}
	info, retry := details(st)
	if info == nil {
		return From(err)
	}
	e := New(st.Code(), info.GetReason(), st.Message()).WithCause(err)
	e.metadata = maps.Clone(info.GetMetadata())
	e.retryAfter = retry
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				e.violations = append(e.violations, violation{v.GetField(), v.GetDescription()})
			}
		}
	}
	return e
}

// ReasonOf returns the reason in err: of an *Error, or of a status that a
// service of the suite answered. It is empty for all other errors.
func ReasonOf(err error) string {
	var own *Error
	if errors.As(err, &own) {
		return own.reason
	}
	if st := statusOf(err); st != nil {
		if info, _ := details(st); info != nil {
			return info.GetReason()
		}
	}
	return ""
}

// statusOf returns the status of a gRPC call in err's chain, or nil. It is not
// status.FromError, which puts the text of the wrapping errors into the message.
func statusOf(err error) *status.Status {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		return carrier.GRPCStatus()
	}
	return nil
}

// details returns our ErrorInfo and the delay a status carries.
func details(st *status.Status) (info *errdetails.ErrorInfo, retry time.Duration) {
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if info == nil && d.GetDomain() == Domain {
				info = d
			}
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration()
		}
	}
	return info, retry
}
