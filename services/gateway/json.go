package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// newJSON is proto3 JSON that refuses what it does not understand.
func newJSON() *runtime.JSONPb {
	return &runtime.JSONPb{
		// Fields that are false, zero or empty are written out: a frontend reads
		// `"enforced": false` rather than guess it. Messages that are absent stay so.
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}
}

// decode reads a body that is one JSON value. What is wrong with one that is not
// the message's is looked for only then, and by ourselves: the text of protojson's
// errors quotes values, and is not the same from one build to the next.
func decode(body []byte, into proto.Message) *errs.Error {
	if err := protojson.Unmarshal(body, into); err == nil {
		return nil
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		return malformed("", "The body is not one JSON value in UTF-8.")
	}
	if refusal := checkObject(bytes.TrimSpace(body), into.ProtoReflect().Descriptor(), ""); refusal != nil {
		return refusal
	}
	return malformed("", "The body is not what this method expects.")
}

func malformed(at, message string) *errs.Error {
	e := errs.New(codes.InvalidArgument, errs.ReasonMalformedJSON, message)
	if at != "" {
		e = e.WithField(at)
	}
	return e
}

// checkObject returns the first thing wrong with a JSON value as a message. at is
// where it stands, such as `agents[3]`.
func checkObject(value json.RawMessage, message protoreflect.MessageDescriptor, at string) *errs.Error {
	if value[0] != '{' {
		return malformed(at, "An object is expected here.")
	}
	seen := map[protoreflect.Name]bool{}
	for key, value := range members(value) {
		field := fieldOf(message, key)
		if field == nil {
			return errs.New(codes.InvalidArgument, errs.ReasonUnknownField,
				"The body has a field that this method does not have"+quoted(join(at, key))+".")
		}
		within := join(at, field.JSONName())
		if seen[field.Name()] {
			return malformed(within, "The field is there twice.")
		}
		seen[field.Name()] = true
		if choice := field.ContainingOneof(); choice != nil && !choice.IsSynthetic() {
			if seen[choice.Name()] {
				return malformed(within, "The field and one before it exclude each other.")
			}
			seen[choice.Name()] = true
		}
		if refusal := checkField(value, field, within); refusal != nil {
			return refusal
		}
	}
	return nil
}

func checkField(value json.RawMessage, field protoreflect.FieldDescriptor, at string) *errs.Error {
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	if !field.IsList() {
		return checkValue(value, field, at)
	}
	if value[0] != '[' {
		return malformed(at, "A list is expected here.")
	}
	i := 0
	for _, element := range members(value) {
		if refusal := checkValue(element, field, fmt.Sprintf("%s[%d]", at, i)); refusal != nil {
			return refusal
		}
		i++
	}
	return nil
}

// checkValue looks into messages of the suite, and tries all other values.
func checkValue(value json.RawMessage, field protoreflect.FieldDescriptor, at string) *errs.Error {
	if m := field.Message(); m != nil && m.ParentFile().Package() != "google.protobuf" {
		return checkObject(value, m, at)
	}
	alone := []byte(fmt.Sprintf("{%q:%s}", field.JSONName(), value))
	if field.IsList() {
		alone = []byte(fmt.Sprintf("{%q:[%s]}", field.JSONName(), value))
	}
	if err := protojson.Unmarshal(alone, dynamicpb.NewMessage(field.ContainingMessage())); err != nil {
		return malformed(at, "The value is of the wrong type.")
	}
	return nil
}

// members yields what is in a valid JSON object, with repeated keys, or list.
func members(value json.RawMessage) func(yield func(key string, value json.RawMessage) bool) {
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(value))
		if _, err := d.Token(); err != nil { // the bracket
			return
		}
		for d.More() {
			key := ""
			if value[0] == '{' {
				token, err := d.Token()
				if err != nil {
					return
				}
				key, _ = token.(string)
			}
			var member json.RawMessage
			if err := d.Decode(&member); err != nil && !errors.Is(err, io.EOF) {
				return
			}
			if !yield(key, member) {
				return
			}
		}
	}
}

// refuseNull refuses fields that are null. The body of an update names the fields
// to change, and null would silently mean false, zero or empty.
func refuseNull(body []byte) *errs.Error {
	for key, value := range members(bytes.TrimSpace(body)) {
		if bytes.Equal(value, []byte("null")) {
			return malformed(key, "In an update null is no value. Leave the field out, or say what it is to be.")
		}
	}
	return nil
}

// fieldOf returns the field of a message by its name in JSON or in the proto.
func fieldOf(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := message.Fields().ByJSONName(name); field != nil {
		return field
	}
	return message.Fields().ByName(protoreflect.Name(name))
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// fieldName is what the name of a field may look like. What does not look like
// one is not sent back: it could be anything, a password among it.
var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.\[\]]{0,99}$`)

// quoted returns `: "name"` for what looks like the name of a field, and otherwise
// nothing.
func quoted(name string) string {
	if !fieldName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf(": %q", name)
}
