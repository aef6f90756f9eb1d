// The policy service holds each account's policy on second factors.
package main

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/internal/verdict"
	"github.com/twofold-auth/twofold/services/policy"
)

func main() {
	required := slices.Concat(parts.RequiredTLS, parts.RequiredStore,
		[]string{"TWOFOLD_DATABASE_URL", "TWOFOLD_SESSION_ADDR"})
	app.Main("policy", required, run)
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
	db, err := parts.Database(ctx, p.Config.DatabaseURL.Reveal(), policy.Schema, policy.Migrations())
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	nc, err := parts.NATS(p.Config.NATSURL.Reveal(), "policy", p.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	bus, err := parts.Bus(nc, p)
	if err != nil {
		return err
	}
	conn, err := parts.Dial(p, source, p.Config.SessionAddr, "session")
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the process ends
	sessions := sessionv1.NewSessionServiceClient(conn)

	cfg := policy.Config{MinGracePeriod: p.Config.MinGracePeriod, DefaultGracePeriod: p.Config.DefaultGracePeriod}
	service, err := policy.New(cfg, policy.Deps{
		DB: db, Bus: bus, Sessions: sessions, PageTokens: pagetoken.New(keys),
		Log: p.Log, Metrics: p.Metrics, Now: p.Now,
	})
	if err != nil {
		return err
	}
	door, err := parts.Listen(ctx, p, parts.Server{
		Name: "policy", Register: []func(grpc.ServiceRegistrar){service.Register},
		Source: source, Verify: verdict.By(sessions),
	})
	if err != nil {
		return err
	}
	return p.Run(ctx, app.Parts{
		Doors: []app.Door{door}, Work: []app.Task{service.Run, followKeys}, Outboxes: []app.Task{service.Publish}, Ready: service.Ready,
	})
}
