package auth

import authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"

// agentServer is the AgentService.
type agentServer struct {
	authv1.UnimplementedAgentServiceServer
	*Service
}
