package auth

import (
	"context"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
)

type signInServer struct {
	authv1.UnimplementedSignInServiceServer
	*Service
}

type profileServer struct {
	authv1.UnimplementedProfileServiceServer
	*Service
}

func (s *Service) removeExpired(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
