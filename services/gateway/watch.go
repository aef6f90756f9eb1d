package gateway

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
)

// rollouts is a client of rollouts that waits for the beginning of a stream, so
// that a watch that is refused over REST is answered as any other call: with an
// HTTP status, headers and the one shape of errors.
type rollouts struct{ rolloutv1.RolloutServiceClient }

// WatchRollout implements RolloutServiceClient.
func (c rollouts) WatchRollout(
	ctx context.Context, req *rolloutv1.WatchRolloutRequest, options ...grpc.CallOption,
) (grpc.ServerStreamingClient[rolloutv1.WatchRolloutResponse], error) {
	stream, err := c.RolloutServiceClient.WatchRollout(ctx, req, options...)
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &begun{ServerStreamingClient: stream, first: first}, nil
}

// begun is a stream whose first message has been read.
type begun struct {
	grpc.ServerStreamingClient[rolloutv1.WatchRolloutResponse]
	first *rolloutv1.WatchRolloutResponse
}

// Recv returns the first message, and then the others.
func (s *begun) Recv() (*rolloutv1.WatchRolloutResponse, error) {
	if first := s.first; first != nil {
		s.first = nil
		return first, nil
	}
	return s.ServerStreamingClient.Recv()
}
