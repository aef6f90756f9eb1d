package gateway

import (
	"errors"
	"io"

	"google.golang.org/grpc"
)

// begun is a stream whose first message has been read, so that a call that is
// refused over REST before it streams is answered as any other: with an HTTP
// status, headers and the one shape of errors.
type begun[T any] struct {
	grpc.ServerStreamingClient[T]
	first *T
}

// begin waits for the first message of a stream, or for its end without any.
func begin[T any](stream grpc.ServerStreamingClient[T], err error) (grpc.ServerStreamingClient[T], error) {
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &begun[T]{ServerStreamingClient: stream, first: first}, nil
}

// Recv returns the first message, and then the others.
func (s *begun[T]) Recv() (*T, error) {
	if first := s.first; first != nil {
		s.first = nil
		return first, nil
	}
	return s.ServerStreamingClient.Recv()
}
