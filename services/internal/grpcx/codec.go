package grpcx

import (
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that ours wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// undecoded stands for a request whose bytes could not be read as its message.
type undecoded struct{ err error }

// attempt is a message to decode into, and how that went.
type attempt struct {
	message any
	failure error
}

// codec is the protobuf codec, except that it tells an attempt of its failure
// and not gRPC, which would answer the call on the spot and without a reason.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*attempt)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	a.failure = c.CodecV2.Unmarshal(data, a.message)
	return nil
}

// receive reads one message and returns what its failure means to the caller.
func receive(read func(any) error, message any) error {
	a := &attempt{message: message}
	err := read(a)
	switch {
	case err == nil && a.failure == nil:
		return nil
	case err == nil:
		return errs.New(codes.InvalidArgument, errs.ReasonMalformedMessage,
			"The request is not a message of the type the method expects.").WithCause(a.failure)
	case errors.Is(err, io.EOF):
		return err // the end of a stream is no failure, and generated code compares with it
	case status.Code(err) == codes.ResourceExhausted:
		// gRPC has answered already, without a reason. This is for log and metrics.
		return errs.New(codes.ResourceExhausted, errs.ReasonMessageTooLarge,
			"The message is larger than the service accepts.").WithCause(err)
	case status.Code(err) == codes.Canceled || status.Code(err) == codes.DeadlineExceeded:
		return err
	default:
		return errs.New(codes.InvalidArgument, errs.ReasonMalformedMessage,
			"The request could not be received.").WithCause(err)
	}
}
