package gateway

import (
	"context"

	"google.golang.org/grpc"

	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
)

// rollouts is a client of rollouts that waits for the beginning of a stream.
type rollouts struct{ rolloutv1.RolloutServiceClient }

// WatchRollout implements RolloutServiceClient.
func (c rollouts) WatchRollout(
	ctx context.Context, req *rolloutv1.WatchRolloutRequest, options ...grpc.CallOption,
) (grpc.ServerStreamingClient[rolloutv1.WatchRolloutResponse], error) {
	return begin(c.RolloutServiceClient.WatchRollout(ctx, req, options...))
}
