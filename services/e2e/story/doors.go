package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// callTimeout bounds one call; an import hashes many passwords.
const callTimeout = time.Minute

// maxAnswer is far above the largest answer.
const maxAnswer = 8 << 20

// fields is a JSON object in a request.
type fields = map[string]any

// operation is one call, as it is made at either door.
type operation struct {
	verb, path string
	body       fields // nil for none
	rpc        func(ctx context.Context, connect Connect) (proto.Message, error)
}

// door carries calls to the suite.
type door interface {
	// call makes the call with a bearer token, or none, and reads the answer
	// into answer. A refusal is a *Refusal.
	call(ctx context.Context, token string, op operation, answer any) error
}

// do makes a call.
func do[A any](ctx context.Context, d door, token string, op operation) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var answer A
	err := d.call(ctx, token, op, &answer)
	return answer, err
}

// restDoor speaks JSON over HTTP.
type restDoor struct {
	base   string
	client *http.Client
}

func (d restDoor) call(ctx context.Context, token string, op operation, answer any) error {
	var body io.Reader
	if op.body != nil {
		encoded, err := json.Marshal(op.body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, op.verb, d.base+op.path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op.verb, op.path, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Header.Set("User-Agent", "story/1")
	response, err := d.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", op.verb, op.path, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to the end
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", op.verb, op.path, err)
	}
	if response.StatusCode != http.StatusOK {
		return restRefusal(op, response.StatusCode, content)
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("%s %s: the answer is not the JSON expected: %w", op.verb, op.path, err)
	}
	return nil
}

// httpStatus is the status that a refusal has over HTTP; 0 where it does not matter.
func httpStatus(c code.Code) int {
	switch c {
	case code.Code_INVALID_ARGUMENT, code.Code_FAILED_PRECONDITION:
		return http.StatusBadRequest
	case code.Code_UNAUTHENTICATED:
		return http.StatusUnauthorized
	case code.Code_PERMISSION_DENIED:
		return http.StatusForbidden
	case code.Code_NOT_FOUND:
		return http.StatusNotFound
	case code.Code_ALREADY_EXISTS, code.Code_ABORTED:
		return http.StatusConflict
	case code.Code_RESOURCE_EXHAUSTED:
		return http.StatusTooManyRequests
	case code.Code_UNAVAILABLE:
		return http.StatusServiceUnavailable
	default:
		return 0
	}
}

// restRefusal reads a google.rpc.Status as JSON.
func restRefusal(op operation, got int, content []byte) error {
	var body struct {
		Code    int32
		Message string
		Details []struct {
			Type   string `json:"@type"`
			Reason string
			Domain string
		}
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return fmt.Errorf("%s %s: status %d with a body that is no google.rpc.Status: %.200s", op.verb, op.path, got, content)
	}
	c := code.Code(body.Code)
	if want := httpStatus(c); want != 0 && want != got {
		return fmt.Errorf("%s %s: %s came with HTTP status %d, expected %d", op.verb, op.path, c, got, want)
	}
	var reasons []string
	for _, detail := range body.Details {
		if detail.Type == "type.googleapis.com/google.rpc.ErrorInfo" && detail.Domain == "twofold" {
			reasons = append(reasons, detail.Reason)
		}
	}
	return refusal(c, body.Message, reasons)
}

// refusal returns an error of the suite, which has exactly one reason.
func refusal(c code.Code, message string, reasons []string) error {
	if len(reasons) != 1 {
		return fmt.Errorf("%s %q came with the reasons %q, expected exactly one", c, message, reasons)
	}
	return &Refusal{Code: c.String(), Reason: reasons[0], Message: message}
}

// Connect returns a connection to the server that has a service: policy, auth,
// session, notifier, or gateway for the rollout. The all-in-one has them all.
type Connect func(service string) grpc.ClientConnInterface

// grpcDoor speaks gRPC with the generated clients.
type grpcDoor struct {
	connect Connect
}

func (d grpcDoor) call(ctx context.Context, token string, op operation, answer any) error {
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	message, err := op.rpc(ctx, d.connect)
	if err != nil {
		return grpcRefusal(err)
	}
	// Into the same form as over REST, absent fields alike.
	content, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("the answer has no JSON: %w", err)
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("the answer is not the one expected: %w", err)
	}
	return nil
}

func grpcRefusal(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	var reasons []string
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "twofold" {
			reasons = append(reasons, info.GetReason())
		}
	}
	return refusal(code.Code(s.Code()), s.Message(), reasons) //nolint:gosec // there are 17 codes
}

// refusedAs returns the refusal in an error, or nil.
func refusedAs(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}
