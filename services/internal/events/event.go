package events

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// NoAccount stands in a subject for the account of an event that has none.
const NoAccount = "_"

const subjectRoot = "twofold"

// validAccount is what may stand in a subject: no dots, wildcards or blanks.
var validAccount = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}$`)

// Event is one thing that happened.
type Event struct {
	// ID is unique for ever; publishing the same id again is one event.
	ID string
	// Source names the service that says so, such as `twofold/policy`.
	Source string
	// Subject is the resource name of what the event is about.
	Subject string
	// Account is the bare account id; empty for an event of no account.
	Account string
	// Version is the version of the aggregate after the change. A consumer that
	// has seen a higher one ignores the event.
	Version int64
	// Time is when it happened, by the SQL clock of the source.
	Time time.Time
	// TraceParent and TraceState name the trace of the call that caused the event,
	// in the form of W3C Trace Context; empty when there is none. They are of no
	// consequence: one that cannot be read is no trace.
	TraceParent, TraceState string
	// Headers are further headers. Names that begin with `ce-` or `Nats-` are
	// taken.
	Headers map[string]string
	// Payload is the event's message, of package twofold.<service>.v<n>. Its
	// name is the event's type.
	Payload proto.Message
}

// Type is the CloudEvents type: the full name of the payload's message.
func (e Event) Type() string {
	if e.Payload == nil {
		return ""
	}
	return string(e.Payload.ProtoReflect().Descriptor().FullName())
}

// Name is the last part of the type, such as `EnforcementEnabled`.
func (e Event) Name() string {
	return string(protoreflect.FullName(e.Type()).Name())
}

// Validate says what is wrong with an event before it is stored or sent.
func (e Event) Validate() error {
	if e.Payload == nil {
		return errors.New("events: event without payload")
	}
	if _, err := serviceOf(e.Type()); err != nil {
		return err
	}
	for name, value := range map[string]string{"id": e.ID, "source": e.Source, "subject": e.Subject} {
		if value == "" {
			return fmt.Errorf("events: %s without %s", e.Type(), name)
		}
		if !validHeaderValue(value) {
			return fmt.Errorf("events: %s of %s has control characters or outer blanks", name, e.Type())
		}
	}
	if e.Account != "" && !validAccount.MatchString(e.Account) {
		return fmt.Errorf("events: account of %s cannot stand in a subject", e.Type())
	}
	if e.Time.IsZero() {
		return fmt.Errorf("events: %s without time", e.Type())
	}
	if !validHeaderValue(e.TraceParent) || !validHeaderValue(e.TraceState) {
		return fmt.Errorf("events: trace of %s has control characters or outer blanks", e.Type())
	}
	for name, value := range e.Headers {
		if !validHeaderName(name) || reservedHeader(name) || !validHeaderValue(value) {
			return fmt.Errorf("events: header %q of %s is not allowed", name, e.Type())
		}
	}
	return nil
}

// Permanent marks an error of a handler that no repetition will mend. The
// message goes to the dead-letter stream.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// IsPermanent says whether repeating what failed is of no use.
func IsPermanent(err error) bool {
	var permanent *permanentError
	return errors.As(err, &permanent)
}

// serviceOf is `policy` for the type `twofold.policy.v1.EnforcementEnabled`.
func serviceOf(eventType string) (string, error) {
	parts := strings.Split(eventType, ".")
	if len(parts) != 4 || parts[0] != subjectRoot {
		return "", fmt.Errorf("events: %q is not a message of twofold.<service>.<version>", eventType)
	}
	return parts[1], nil
}

// subject is where an event is published.
func subject(eventType, account string) (string, error) {
	prefix, err := subjectPrefix(eventType)
	if err != nil {
		return "", err
	}
	if account == "" {
		account = NoAccount
	}
	return prefix + account, nil
}

func subjectPrefix(eventType string) (string, error) {
	service, err := serviceOf(eventType)
	if err != nil {
		return "", err
	}
	name := string(protoreflect.FullName(eventType).Name())
	return subjectRoot + "." + service + "." + name + ".", nil
}

// filters are the subjects of the wanted types, of every account.
func filters(wanted []proto.Message) ([]string, error) {
	if len(wanted) == 0 {
		return nil, errors.New("events: no event types wanted")
	}
	subjects := make([]string, 0, len(wanted))
	for _, message := range wanted {
		prefix, err := subjectPrefix(Event{Payload: message}.Type())
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, prefix+"*")
	}
	return subjects, nil
}
