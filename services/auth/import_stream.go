package auth

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// StreamImportAgents imports batch after batch. It holds one batch at a time,
// however long the list is; who sends faster than passwords are hashed waits.
func (s *agentServer) StreamImportAgents(
	stream grpc.BidiStreamingServer[authv1.StreamImportAgentsRequest, authv1.StreamImportAgentsResponse],
) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// The stream may be longer than the session that began it.
		if err := s.stillSignedIn(stream.Context()); err != nil {
			return err
		}
		done, err := s.ImportAgents(stream.Context(), req.GetBatch())
		if err != nil {
			return err
		}
		if err := stream.Send(&authv1.StreamImportAgentsResponse{Results: done.GetResults()}); err != nil {
			return err
		}
	}
}

// stillSignedIn refuses a caller whose session has ended since the call began, or
// who is no admin any more.
func (s *Service) stillSignedIn(ctx context.Context) error {
	err := authz.VerifyAgain(ctx, func(ctx context.Context, token string) (*authz.Person, error) {
		_, err := s.sessions.ValidateSession(ctx, &sessionv1.ValidateSessionRequest{Token: token})
		return nil, err
	})
	if refusal := errs.From(err); refusal == nil || isVerdict(refusal) {
		return err
	}
	return errs.Unavailable(err)
}
