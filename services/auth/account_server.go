package auth

import authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"

// accountServer is the AccountService.
type accountServer struct {
	authv1.UnimplementedAccountServiceServer
	*Service
}
