package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// strictJSON is proto3 JSON that refuses what it does not understand.
type strictJSON struct {
	runtime.JSONPb
}

func newStrictJSON() *strictJSON {
	return &strictJSON{runtime.JSONPb{
		// Fields that are false, zero or empty are written out: a frontend reads
		// `"enforced": false` rather than guess it. Messages that are absent stay so.
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
}

// NewDecoder reads one JSON value, to the end of the body: what follows it is an
// error. An empty body is io.EOF, which the generated code takes for an empty
// message.
func (m *strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(into any) error {
		body, err := io.ReadAll(r)
		if err != nil {
			return decodingError{errs.ReasonMalformedJSON, "The body could not be read whole."}
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return io.EOF
		}
		if !json.Valid(body) {
			return decodingError{errs.ReasonMalformedJSON, "The body is not one JSON value."}
		}
		if err := m.Unmarshal(body, into); err != nil {
			return explain(err)
		}
		return nil
	})
}

// explain says what is wrong with well-formed JSON. protojson quotes the field it
// stumbled over, never a value of a field that exists; of its text only that
// name, as far as it can be one, is passed on.
func explain(err error) error {
	text := err.Error()
	if _, rest, found := strings.Cut(text, "unknown field "); found {
		return decodingError{errs.ReasonUnknownField, "The body has a field that this method does not have" + quotedName(rest) + "."}
	}
	if _, rest, found := strings.Cut(text, "duplicate field "); found {
		return decodingError{errs.ReasonMalformedJSON, "The body has a field twice" + quotedName(rest) + "."}
	}
	if _, rest, found := strings.Cut(text, "for field "); found {
		return decodingError{errs.ReasonMalformedJSON, "The body has a value of the wrong type in" + strings.TrimPrefix(quotedName(rest), ":") + "."}
	}
	return decodingError{errs.ReasonMalformedJSON, "The body has a value of the wrong type."}
}

// quotedName returns `: "name"` when text begins with the name of a field, in
// quotes or not, and "" otherwise.
func quotedName(text string) string {
	name := strings.TrimPrefix(text, `"`)
	end := strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if end >= 0 {
		name = name[:end]
	}
	if name == "" || len(name) > 64 {
		return ""
	}
	return fmt.Sprintf(": %q", name)
}

// strictQuery refuses query parameters that the request does not have, or that
// the path or the body has already said.
type strictQuery struct {
	runtime.DefaultQueryParser
}

// Parse implements runtime.QueryParameterParser.
func (p *strictQuery) Parse(message proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key, given := range values {
		path, ok := fieldPath(message.ProtoReflect().Descriptor(), key)
		if !ok || filter.HasCommonPrefix(path) {
			return decodingError{errs.ReasonUnknownField, "The URL has a query parameter that this method does not have" + quotedName(key) + "."}
		}
		if len(given) > 1 {
			return decodingError{errs.ReasonInvalidField, "The URL has a query parameter twice" + quotedName(key) + "."}
		}
	}
	if err := p.DefaultQueryParser.Parse(message, values, filter); err != nil {
		return decodingError{errs.ReasonInvalidField, "The URL has a query parameter of the wrong type."}
	}
	return nil
}

// fieldPath resolves `pageSize` or `policy.enforced` to names of fields.
func fieldPath(message protoreflect.MessageDescriptor, key string) (path []string, ok bool) {
	parts := strings.Split(key, ".")
	for i, part := range parts {
		field := message.Fields().ByJSONName(part)
		if field == nil {
			field = message.Fields().ByTextName(part)
		}
		if field == nil {
			return nil, false
		}
		path = append(path, string(field.Name()))
		if i == len(parts)-1 {
			break
		}
		if message = field.Message(); message == nil || field.IsList() || field.IsMap() {
			return nil, false
		}
	}
	return slices.Clip(path), true
}
