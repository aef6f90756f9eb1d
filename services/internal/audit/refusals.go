package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// recordTimeout bounds how long a refusal waits for its event.
const recordTimeout = 2 * time.Second

// Config is what a service tells of itself, so that refusals are recorded.
type Config struct {
	// Service is its name.
	Service string
	// Services are the gRPC services whose refusals are recorded.
	Services []protoreflect.ServiceDescriptor
	// Actions names what each method does, by its full name, as its entries of
	// changes do. Every method that admins or the operator may call, and that
	// changes something, must have one.
	Actions map[string]string
	// Record puts a refusal into the log: Log.Record where there is a database.
	Record func(ctx context.Context, r Refusal) error

	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Refusal is a refused call that belongs into the log. Its caller, their address and
// the request id are the context's.
type Refusal struct {
	// Account is the bare id of the account whose log it belongs to.
	Account string
	// Exists says that there surely is the account, for it is the caller's own. One
	// that the operator names may be none.
	Exists bool
	// Action, Subject and Reason are the entry's.
	Action, Subject, Reason string
	// Omitted is how many refusals of the caller before are not in the log.
	Omitted int
}

// Log is the log of a service that has a database.
type Log struct {
	DB *sqldb.DB
	// Actor is the caller as entries name them.
	Actor func(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller) (*eventv1.Actor, error)
	// HasAccount reports whether there is an account, by its bare id.
	HasAccount func(ctx context.Context, tx *sqldb.Tx, account string) (bool, error)
}

// Record puts a refusal into the log, in a transaction of its own.
func (l Log) Record(ctx context.Context, r Refusal) error {
	return l.DB.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return l.Append(ctx, tx, r, nil) })
}

// Append adds a refusal to a transaction, with more details.
func (l Log) Append(ctx context.Context, tx *sqldb.Tx, r Refusal, more map[string]string) error {
	if !r.Exists {
		if exists, err := l.HasAccount(ctx, tx, r.Account); err != nil || !exists {
			return err
		}
	}
	actor, err := l.Actor(ctx, tx, authz.FromContext(ctx))
	if err != nil {
		return err
	}
	details := map[string]string{}
	if r.Omitted > 0 {
		details["omitted"] = strconv.Itoa(r.Omitted)
	}
	maps.Copy(details, more)
	return Append(ctx, tx, Entry{
		Account: r.Account, Actor: actor, Action: r.Action, Subject: r.Subject, Denied: r.Reason, Details: details,
	})
}

// Refusals records refused calls. A call by a person belongs to the log of the
// person's own account, wherever it aimed: nobody writes into the log of others.
// A call by the operator belongs to the account it was about, if there is one.
type Refusals struct {
	config  Config
	actions map[string]string
	limits  *limits
	omitted *prometheus.CounterVec
}

// The reasons for which a refusal is not recorded, in the metric.
const (
	omittedFlood  = "flood"
	omittedFailed = "failed"
)

// NewRefusals fails when a method that changes something has no action, so that
// none is forgotten.
func NewRefusals(config Config) (*Refusals, error) {
	r := &Refusals{config: config, actions: maps.Clone(config.Actions), limits: newLimits(config.Now)}
	r.omitted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "twofold_audit_refusals_omitted_total",
		Help: "Refused calls that are not in the audit log, by service and why: flood, or failed.",
	}, []string{"service", "cause"})
	var registered prometheus.AlreadyRegisteredError
	if err := config.Metrics.Register(r.omitted); errors.As(err, &registered) {
		// Several services of one process share it.
		shared, ok := registered.ExistingCollector.(*prometheus.CounterVec)
		if !ok {
			return nil, fmt.Errorf("audit: %w", err)
		}
		r.omitted = shared
	} else if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	for _, cause := range []string{omittedFlood, omittedFailed} {
		r.omitted.WithLabelValues(config.Service, cause) // an alert sees the step from zero
	}
	var problems []error
	unused := maps.Clone(config.Actions)
	for _, service := range config.Services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			full := fmt.Sprintf("/%s/%s", service.FullName(), method.Name())
			if !isAdministration(method) {
				continue
			}
			delete(unused, full)
			if config.Actions[full] == "" {
				problems = append(problems, fmt.Errorf("audit: %s changes something, and has no action", full))
			}
		}
	}
	for full := range unused {
		problems = append(problems, fmt.Errorf("audit: %s has an action, and no admin changes anything by it", full))
	}
	return r, errors.Join(problems...)
}

// Register has the refusals of all services recorded, wherever they are served.
func (r *Refusals) Register(registrar grpc.ServiceRegistrar) {
	for _, service := range r.config.Services {
		grpcx.Observe(registrar, string(service.FullName()), r.Observe)
	}
}

// isAdministration reports whether admins or the operator may call the method,
// and it changes something, by its name.
func isAdministration(method protoreflect.MethodDescriptor) bool {
	for _, reader := range []string{"Get", "List", "BatchGet", "Count", "Preview", "Watch", "Export"} {
		if strings.HasPrefix(string(method.Name()), reader) {
			return false
		}
	}
	access, _ := proto.GetExtension(method.Options(), authzv1.E_Access).(*authzv1.Access)
	for _, caller := range access.GetCallers() {
		if caller == authzv1.Access_ADMIN || caller == authzv1.Access_OPERATOR {
			return true
		}
	}
	return false
}

// Observe records a call, if it is a refusal of a change. It does not fail: the
// call has its answer, and what cannot be recorded is logged and counted.
func (r *Refusals) Observe(ctx context.Context, call grpcx.Observed) {
	action := r.actions[call.Method]
	if action == "" || !isRefusal(call.Refusal) {
		return
	}
	subject := subjectOf(call.Request)
	account, own := accountOf(call.Caller, subject)
	if account == "" {
		return
	}
	omitted, ok := r.limits.allow(account, call.Caller)
	if !ok {
		r.omitted.WithLabelValues(r.config.Service, omittedFlood).Inc()
		return
	}
	// Whoever hangs up was refused all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	err := r.config.Record(ctx, Refusal{
		Account: account, Exists: own, Action: action, Subject: subject, Reason: call.Refusal.Reason(), Omitted: omitted,
	})
	if err != nil {
		r.omitted.WithLabelValues(r.config.Service, omittedFailed).Inc()
		r.config.Log.ErrorContext(ctx, "A refused call is not in the audit log", slog.String("method", call.Method),
			slog.String("account", account), slog.String("request_id", call.Caller.RequestID), slog.Any("error", err))
	}
}

// isRefusal tells a no from a failure: the latter may have taken effect, and then
// its event is there.
func isRefusal(e *errs.Error) bool {
	if e == nil {
		return false
	}
	switch e.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.FailedPrecondition,
		codes.Aborted, codes.Unauthenticated:
		return true
	default:
		return false
	}
}

// accountOf returns the account whose log a refusal belongs to, and whether it is
// the caller's own, which need not be looked for.
func accountOf(caller *authz.Caller, subject string) (account string, own bool) {
	switch caller.Kind {
	case authz.KindPerson:
		return caller.Person.Account, true
	case authz.KindOperator, authz.KindService:
		parts := strings.SplitN(subject, "/", 3)
		if len(parts) >= 2 && parts[0] == "accounts" && resource.IsAccountID(parts[1]) {
			return parts[1], false
		}
	case authz.KindAnonymous:
	}
	return "", false
}

// maxSubject is as long as a resource name may be.
const maxSubject = 200

// subjectOf returns the resource name that a request is about: its own `name` or
// `parent`, or the `name` of the resource in it. What is no name is not kept:
// it could be anything, a password among it.
func subjectOf(request any) string {
	message, ok := request.(proto.Message)
	if !ok || !message.ProtoReflect().IsValid() {
		return ""
	}
	m := message.ProtoReflect()
	subject := text(m, "name")
	if subject == "" {
		subject = text(m, "parent")
	}
	if id := text(m, "account_id"); subject == "" && id != "" {
		subject = resource.Account(id)
	}
	if subject == "" {
		m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			if field.Message() != nil && !field.IsList() && !field.IsMap() {
				subject = text(value.Message(), "name")
			}
			return subject == ""
		})
	}
	isOther := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '/' && r != '-'
	}
	if len(subject) > maxSubject || !strings.HasPrefix(subject, "accounts/") || strings.ContainsFunc(subject, isOther) {
		return ""
	}
	return subject
}

// text is a field of a message, if it is text.
func text(m protoreflect.Message, name protoreflect.Name) string {
	field := m.Descriptor().Fields().ByName(name)
	if field == nil || field.Kind() != protoreflect.StringKind || field.IsList() {
		return ""
	}
	return m.Get(field).String()
}
