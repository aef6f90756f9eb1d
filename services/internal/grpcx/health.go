package grpcx

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// errNoSuchService answers who asks for the health of what is not served here,
// with the code that the protocol of health checks demands.
var errNoSuchService = errs.New(codes.NotFound, errs.ReasonResourceNotFound, "This server has no such service.")

// healthService gives the library's answers a reason. Without one, a typo in a
// caller's name of a service would pass for a fault of ours.
type healthService struct{ *health.Server }

// Check implements grpc_health_v1.HealthServer.
func (h healthService) Check(
	ctx context.Context, req *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	response, err := h.Server.Check(ctx, req)
	if status.Code(err) == codes.NotFound {
		return nil, errNoSuchService.WithCause(err)
	}
	return response, err
}
