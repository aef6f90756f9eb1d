package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// CloudEvents 1.0.2, NATS protocol binding 1.0.2, section 3.1 (binary mode):
// attributes are headers with the prefix `ce-`, the data is the payload.
const (
	headerID          = "ce-id"
	headerSource      = "ce-source"
	headerType        = "ce-type"
	headerSpecVersion = "ce-specversion"
	headerTime        = "ce-time"
	headerSubject     = "ce-subject"
	headerVersion     = "ce-aggregateversion"
	// CloudEvents, extension Distributed Tracing: the trace in which the event came
	// to be, which stays the same however often it is delivered.
	headerTraceParent = "ce-traceparent"
	headerTraceState  = "ce-tracestate"
	headerContentType = "content-type"

	specVersion = "1.0"
	contentType = "application/protobuf"
)

// encode makes a message of a valid event.
func encode(e Event) (*nats.Msg, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	to, err := subject(e.Type(), e.Account)
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", e.Type(), err)
	}
	msg := nats.NewMsg(to)
	msg.Data = data
	for name, value := range e.Headers {
		msg.Header.Set(name, value)
	}
	msg.Header.Set(headerSpecVersion, specVersion)
	msg.Header.Set(headerContentType, contentType)
	msg.Header.Set(headerID, e.ID)
	msg.Header.Set(headerSource, e.Source)
	msg.Header.Set(headerType, e.Type())
	msg.Header.Set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	msg.Header.Set(headerSubject, e.Subject)
	msg.Header.Set(headerVersion, strconv.FormatInt(e.Version, 10))
	if e.TraceParent != "" {
		msg.Header.Set(headerTraceParent, e.TraceParent)
	}
	if e.TraceState != "" {
		msg.Header.Set(headerTraceState, e.TraceState)
	}
	return msg, nil
}

// decode is the inverse of encode. It accepts only what encode produces: anything
// else was not published by a service of the suite.
func decode(to string, header nats.Header, data []byte) (Event, error) {
	if got := header.Get(headerSpecVersion); got != specVersion {
		return Event{}, fmt.Errorf("events: %s is %q", headerSpecVersion, got)
	}
	if got := header.Get(headerContentType); got != contentType {
		return Event{}, fmt.Errorf("events: %s is %q", headerContentType, got)
	}
	payload, err := DecodePayload(header.Get(headerType), data)
	if err != nil {
		return Event{}, err
	}
	occurred, err := time.Parse(time.RFC3339Nano, header.Get(headerTime))
	if err != nil {
		return Event{}, fmt.Errorf("events: %s: %w", headerTime, err)
	}
	version, err := strconv.ParseInt(header.Get(headerVersion), 10, 64)
	if err != nil {
		return Event{}, fmt.Errorf("events: %s: %w", headerVersion, err)
	}
	e := Event{
		ID:      header.Get(headerID),
		Source:  header.Get(headerSource),
		Subject: header.Get(headerSubject),
		Account: lastToken(to),
		Version: version,
		Time:    occurred.UTC(),
		Headers: otherHeaders(header),
		Payload: payload,

		TraceParent: cleanHeaderValue(header.Get(headerTraceParent)),
		TraceState:  cleanHeaderValue(header.Get(headerTraceState)),
	}
	if e.Account == NoAccount {
		e.Account = ""
	}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	// Permissions are given by subject, so the subject decides what a publisher
	// may have said.
	if want, err := subject(e.Type(), e.Account); err != nil || want != to {
		return Event{}, fmt.Errorf("events: %s arrived under another subject", e.Type())
	}
	return e, nil
}

// DecodePayload makes the message of an event again from its type and its bytes.
func DecodePayload(eventType string, data []byte) (proto.Message, error) {
	if _, err := serviceOf(eventType); err != nil {
		return nil, err
	}
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(eventType))
	if err != nil {
		return nil, fmt.Errorf("events: unknown event type %q: %w", eventType, err)
	}
	payload := messageType.New().Interface()
	if err := proto.Unmarshal(data, payload); err != nil {
		return nil, fmt.Errorf("events: decode %s: %w", eventType, err)
	}
	return payload, nil
}

func lastToken(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// otherHeaders are those that are not part of the envelope. One that encode
// would refuse is dropped: it is an extra and no reason to lose the event.
func otherHeaders(header nats.Header) map[string]string {
	var others map[string]string
	for name := range header {
		value := header.Get(name)
		if reservedHeader(name) || !validHeaderName(name) || !validHeaderValue(value) {
			continue
		}
		if others == nil {
			others = make(map[string]string)
		}
		others[name] = value
	}
	return others
}

func reservedHeader(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "ce-") || strings.HasPrefix(lower, "nats-") || lower == headerContentType
}

func validHeaderName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return name != ""
}

// validHeaderValue keeps line breaks, which end a header, and outer blanks, which
// get lost on the way, out of the headers.
func validHeaderValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return value == strings.TrimSpace(value)
}

// cleanHeaderValue makes any text a header value of bounded length.
func cleanHeaderValue(text string) string {
	const limit = 500
	clean := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text))
	if len(clean) > limit {
		clean = strings.TrimSpace(strings.ToValidUTF8(clean[:limit], ""))
	}
	return clean
}
