package grpcx

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// Observed is a call whose answer is known.
type Observed struct {
	// Method is the full name of the method.
	Method string
	// Caller is who made the call, admitted or not.
	Caller *authz.Caller
	// Request is what they sent. It is nil for a stream and for what was no
	// message of the method's, and it may break the rules of its proto.
	Request any
	// Refusal is the answer; nil for one that is none.
	Refusal *errs.Error
}

// Observer is told of calls, before they are answered. The caller waits for it,
// and what it does changes nothing for them. ctx may be over.
type Observer func(ctx context.Context, call Observed)

// Observe has an observer told of the calls to a service by everybody whose
// identity is known. A service's Register function calls it, so that the observer
// is wherever the service is, and no process has to remember it. A registrar that
// is not of NewServer has no chain, and so nothing to observe.
func Observe(r grpc.ServiceRegistrar, service string, observer Observer) {
	own, ok := r.(*registrar)
	if !ok {
		return
	}
	if own.observers == nil {
		own.observers = map[string]Observer{}
	}
	own.observers[service] = observer
}

func (c *chain) tell(ctx context.Context, call *call, refusal *errs.Error) {
	service, _, _ := strings.Cut(strings.TrimPrefix(call.method, "/"), "/")
	observer := c.observers[service]
	if observer == nil || call.caller == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			c.metrics.panics.Inc()
			c.log.ErrorContext(ctx, "Observer of calls panicked", "method", call.method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	request := call.request
	if _, bad := request.(undecoded); bad {
		request = nil
	}
	observer(authz.NewContext(ctx, call.caller), Observed{
		Method: call.method, Caller: call.caller, Request: request, Refusal: refusal,
	})
}
