// The auth service holds accounts and agents, and how they prove who they are.
package main

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/internal/verdict"
)

func main() {
	required := slices.Concat(parts.RequiredTLS, parts.RequiredStore,
		[]string{"TWOFOLD_DATABASE_URL", "TWOFOLD_POLICY_ADDR", "TWOFOLD_SESSION_ADDR"})
	app.Main("auth", required, run)
}

func run(ctx context.Context, p *app.Process) error {
	source, err := parts.Identity(p.Config)
	if err != nil {
		return err
	}
	keys, followKeys, err := parts.Keys(p)
	if err != nil {
		return err
	}
	db, err := parts.Database(ctx, p.Config.DatabaseURL.Reveal(), auth.Schema, auth.Migrations())
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	nc, err := parts.NATS(p.Config.NATSURL.Reveal(), "auth", p.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	bus, err := parts.Bus(nc, p)
	if err != nil {
		return err
	}
	policyConn, err := parts.Dial(p, source, p.Config.PolicyAddr, "policy")
	if err != nil {
		return err
	}
	defer policyConn.Close() //nolint:errcheck // the process ends
	sessionConn, err := parts.Dial(p, source, p.Config.SessionAddr, "session")
	if err != nil {
		return err
	}
	defer sessionConn.Close() //nolint:errcheck // the process ends
	sessions := sessionv1.NewSessionServiceClient(sessionConn)

	service, err := auth.New(auth.DefaultConfig(), auth.Deps{
		DB: db, Bus: bus, Keys: keys,
		Policies: policyv1.NewPolicyServiceClient(policyConn), Sessions: sessions,
		Passwords: password.New(password.Config{}),
		Log:       p.Log, Metrics: p.Metrics, Now: p.Now,
	})
	if err != nil {
		return err
	}
	door, err := parts.Listen(ctx, p, parts.Server{
		Name: "auth", Register: []func(grpc.ServiceRegistrar){service.Register},
		Source: source, Verify: verdict.By(sessions),
	})
	if err != nil {
		return err
	}
	return p.Run(ctx, app.Parts{
		Doors: []app.Door{door}, Work: []app.Task{service.Run, followKeys}, Outboxes: []app.Task{service.Publish}, Ready: service.Ready,
	})
}
