package grpcx

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// maxViolations bounds what an error says about one request. A batch of a
// thousand can be wrong in thousands of places; the first tell enough.
const maxViolations = 20

// requestChecker refuses requests that break the rules in their protos.
type requestChecker struct {
	validator protovalidate.Validator
}

// newRequestChecker compiles the rules of all requests of the services, so that
// a rule that makes no sense stops the start and not the first caller.
func newRequestChecker(services map[string]grpc.ServiceInfo) (*requestChecker, error) {
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("grpcx: %w", err)
	}
	for service := range services {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			return nil, fmt.Errorf("grpcx: no descriptor of %s: %w", service, err)
		}
		descriptor, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("grpcx: %s is no service", service)
		}
		for i := range descriptor.Methods().Len() {
			input := descriptor.Methods().Get(i).Input()
			message, err := protoregistry.GlobalTypes.FindMessageByName(input.FullName())
			if err != nil {
				return nil, fmt.Errorf("grpcx: no type for %s: %w", input.FullName(), err)
			}
			var mistake *protovalidate.CompilationError
			if err := validator.Validate(message.New().Interface()); errors.As(err, &mistake) {
				return nil, fmt.Errorf("grpcx: rules of %s: %w", input.FullName(), mistake)
			}
		}
	}
	return &requestChecker{validator: validator}, nil
}

// check returns what is wrong with a request. Values never appear in it: they
// may be passwords and codes.
func (c *requestChecker) check(request any) error {
	if bad, ok := request.(undecoded); ok {
		return bad.err
	}
	message, ok := request.(proto.Message)
	if !ok {
		return fmt.Errorf("grpcx: a request of type %T", request)
	}
	if where, number := unknownField(message.ProtoReflect()); number != 0 {
		return errs.New(codes.InvalidArgument, errs.ReasonUnknownField,
			"The request holds a field that this method does not have.").
			WithViolation(where, fmt.Sprintf("There is no field with the number %d.", number))
	}
	var invalid *protovalidate.ValidationError
	err := c.validator.Validate(message)
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &invalid):
		return fmt.Errorf("grpcx: validate %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	e := errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request breaks the rules of the fields named.")
	for _, v := range invalid.Violations[:min(len(invalid.Violations), maxViolations)] {
		e = e.WithViolation(protovalidate.FieldPathString(v.Proto.GetField()), v.Proto.GetMessage())
	}
	return e
}

// unknownField returns the path of the first message that holds a field its type
// does not have, and that field's number; or 0. Protobuf keeps such fields
// silently. Here they are refused: what they were meant to do would not happen,
// and when a caller is newer than the service it calls, the difference may be a
// condition it relies on.
func unknownField(message protoreflect.Message) (where string, number protowire.Number) {
	if unknown := message.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return "", number
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				where, number = within(name+"[]", v.Message())
				return number == 0
			})
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				if where, number = within(fmt.Sprintf("%s[%d]", name, i), value.List().Get(i).Message()); number != 0 {
					return false
				}
			}
		default:
			where, number = within(name, value.Message())
		}
		return number == 0
	})
	return where, number
}

func within(path string, message protoreflect.Message) (where string, number protowire.Number) {
	where, number = unknownField(message)
	if where == "" {
		return path, number
	}
	return path + "." + where, number
}
