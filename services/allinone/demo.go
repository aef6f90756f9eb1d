package allinone

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

// demoFile keeps the demo account's password, so that it is the same after a
// restart. It is for looking around on one's own machine.
const demoFile = "demo.json"

// Demo is an account to look around with.
type Demo struct {
	Account  string  `json:"account"`
	Password string  `json:"password"`
	SignIns  []*demo `json:"signIns"`
}

// demo is an agent of the demo account.
type demo struct {
	Email       string            `json:"email"`
	DisplayName string            `json:"displayName"`
	Role        authv1.Agent_Role `json:"role"`
}

// prepareDemo makes the demo account's password, or reads the one that was made.
func (s *Suite) prepareDemo() error {
	path := filepath.Join(s.process.Config.DataDir, demoFile)
	content, err := os.ReadFile(path) //nolint:gosec // the operator's own directory
	if err == nil {
		s.Demo = &Demo{}
		if err := json.Unmarshal(content, s.Demo); err != nil {
			return fmt.Errorf("allinone: %s: %w", path, err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("allinone: %w", err)
	}
	s.Demo = &Demo{
		Account:  "demo",
		Password: "demo-" + strings.ToLower(rand.Text()[:12]),
		SignIns: []*demo{
			{"olivia@demo.example", "Olivia Owner", authv1.Agent_OWNER},
			{"adam@demo.example", "Adam Admin", authv1.Agent_ADMIN},
			{"agnes@demo.example", "Agnes Agent", authv1.Agent_AGENT},
			{"bruno@demo.example", "Bruno Agent", authv1.Agent_AGENT},
			{"carla@demo.example", "Carla Agent", authv1.Agent_AGENT},
		},
	}
	if content, err = json.MarshalIndent(s.Demo, "", "  "); err != nil { //nolint:gosec // the demo account is made for this file, readable by its owner alone
		return fmt.Errorf("allinone: %w", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("allinone: %w", err)
	}
	return nil
}

// SeedDemo makes the demo account, once. The suite must be running.
func (s *Suite) SeedDemo(ctx context.Context) error {
	if s.Demo == nil {
		return nil
	}
	conn, err := s.network.dial("operator", "auth")
	if err != nil {
		return err
	}
	owner := s.Demo.SignIns[0]
	_, err = authv1.NewAccountServiceClient(conn).CreateAccount(ctx, &authv1.CreateAccountRequest{
		AccountId: s.Demo.Account, DisplayName: "Demo",
		Owner: &authv1.CreateAccountRequest_Owner{Email: owner.Email, DisplayName: owner.DisplayName, Password: s.Demo.Password},
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("allinone: demo account: %w", err)
	}
	rows := make([]*authv1.ImportAgentsRequest_Row, 0, len(s.Demo.SignIns)-1)
	for _, d := range s.Demo.SignIns[1:] {
		rows = append(rows, &authv1.ImportAgentsRequest_Row{
			Email: d.Email, DisplayName: d.DisplayName, Role: d.Role, Password: s.Demo.Password,
		})
	}
	// Those who are there already are answered as such.
	_, err = authv1.NewAgentServiceClient(conn).ImportAgents(ctx, &authv1.ImportAgentsRequest{
		Parent: resource.Account(s.Demo.Account), Agents: rows,
	})
	if err != nil {
		return fmt.Errorf("allinone: demo agents: %w", err)
	}
	return nil
}
