package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

// chain is what every call passes, unary or streaming.
type chain struct {
	log           *slog.Logger
	now           func() time.Time
	metrics       *metrics
	authorizer    *authz.Authorizer
	requests      *requestChecker
	observers     map[string]Observer // by service
	isUnavailable func(error) bool
	stopping      <-chan struct{}
}

// run is the chain. The order is: request id and trace, measuring, recovering, admission,
// and then handle, which validates and calls the handler. Whatever goes wrong
// below becomes one status here, is counted, is told to the service's observer,
// and is logged once with its cause. request is nil for a stream.
func (c *chain) run(ctx context.Context, method string, request any, handle func(context.Context) error) error {
	started := c.now()
	call := &call{method: method, request: request, requestID: requestIDOf(ctx)}
	ctx = tracing.ContinueCall(ctx)
	tracing.NoteRequest(ctx, call.requestID)
	// Fails only after headers were sent, which nobody has had the chance to do.
	_ = grpc.SetHeader(ctx, metadata.Pairs(authz.RequestIDKey, call.requestID))

	refusal := c.errorOf(ctx, c.admitAndHandle(ctx, call, handle))
	c.tell(ctx, call, refusal)

	code, reason := codes.OK, ""
	if refusal != nil {
		code, reason = refusal.Code(), refusal.Reason()
	}
	elapsed := c.now().Sub(started)
	c.metrics.observe(c.knownMethod(method), code, reason, elapsed)
	c.logOutcome(ctx, call, refusal, elapsed)
	if refusal == nil {
		return nil
	}
	return refusal.GRPCStatus().Err()
}

// call is what is known of a call outside of its handler.
type call struct {
	method    string
	request   any
	requestID string
	caller    *authz.Caller // nil while it is not known who calls
}

func (c *chain) admitAndHandle(ctx context.Context, call *call, handle func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.metrics.panics.Inc()
			err = errs.Internal(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	caller, err := c.authorizer.Authorize(ctx, call.method)
	if caller != nil {
		caller.RequestID = call.requestID
		call.caller = caller
	}
	if err != nil {
		return err
	}
	return handle(authz.NewContext(ctx, caller))
}

// unary is the chain for methods with one request and one response.
func (c *chain) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	var response any
	err := c.run(ctx, info.FullMethod, request, func(ctx context.Context) (err error) {
		if err := c.requests.check(request); err != nil {
			return err
		}
		response, err = next(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// stream is the chain for all other methods. Their requests are validated as
// they arrive.
func (c *chain) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	// A stream may be open for hours; it ends when the server wants to stop.
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-c.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return c.run(ctx, info.FullMethod, nil, func(ctx context.Context) error {
		return next(srv, &checkedStream{ServerStream: stream, ctx: ctx, requests: c.requests})
	})
}

var errStopping = errors.New("grpcx: the server is stopping")

// checkedStream validates what it receives.
type checkedStream struct {
	grpc.ServerStream
	ctx      context.Context //nolint:containedctx // grpc.ServerStream hands its context out by a method
	requests *requestChecker
}

// Context returns the context with the caller in it.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg receives one valid message.
func (s *checkedStream) RecvMsg(message any) error {
	if err := receive(s.ServerStream.RecvMsg, message); err != nil {
		return err
	}
	return s.requests.check(message)
}

// errorOf is the one place where an error gets its meaning for the caller.
func (c *chain) errorOf(ctx context.Context, err error) *errs.Error {
	var own *errs.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return errs.From(err)
	case errors.Is(context.Cause(ctx), errStopping):
		return errs.Unavailable(err)
	case ctx.Err() != nil:
		// The caller's time is over, or the caller is gone. Drivers say so in many
		// ways, and all of them mean this.
		return errs.From(ctx.Err()).WithCause(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), c.isUnavailable(err):
		// Not the caller's deadline, then, but one that we set on something of ours.
		return errs.Unavailable(err)
	}
	return errs.From(err)
}

func (c *chain) knownMethod(method string) string {
	if c.authorizer.Knows(method) {
		return method
	}
	return "unknown" // a stranger must not be able to make label values up
}

func (c *chain) logOutcome(ctx context.Context, call *call, refusal *errs.Error, elapsed time.Duration) {
	level := levelOf(refusal)
	if !c.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", call.requestID),
		slog.String("method", c.knownMethod(call.method)),
		slog.Duration("duration", elapsed),
	}
	if caller := call.caller; caller != nil {
		if caller.Person != nil {
			attrs = append(attrs, slog.String("agent", caller.Person.AgentName()))
		}
		if caller.Via != "" {
			attrs = append(attrs, slog.String("via", caller.Via))
		}
	}
	text := "Call answered"
	if refusal != nil {
		text = "Call refused"
		if level >= slog.LevelWarn {
			text = "Call failed"
		}
		attrs = append(attrs,
			slog.String("code", refusal.Code().String()),
			slog.String("reason", refusal.Reason()))
		if cause := refusal.Unwrap(); cause != nil {
			attrs = append(attrs, slog.String("cause", cause.Error()))
		}
	}
	c.log.LogAttrs(ctx, level, text, attrs...)
}

// levelOf returns how much an outcome is the operator's business: faults of ours
// are errors, parts that are away are warnings, refusals are everyday.
func levelOf(refusal *errs.Error) slog.Level {
	if refusal == nil {
		return slog.LevelDebug
	}
	switch refusal.Code() {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// requestIDPattern keeps log lines free of what a stranger might want in them.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestIDOf returns the id the caller sent, or a new one.
func requestIDOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, authz.RequestIDKey)
	if len(values) == 1 && requestIDPattern.MatchString(values[0]) {
		return values[0]
	}
	return uuid.Must(uuid.NewV7()).String()
}
