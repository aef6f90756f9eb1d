// The notifier tells people by mail what happened to their account and their
// second factors.
package main

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/internal/verdict"
	"github.com/twofold-auth/twofold/services/notifier"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

func main() {
	required := slices.Concat(parts.RequiredTLS, parts.RequiredStore, []string{
		"TWOFOLD_DATABASE_URL", "TWOFOLD_AUTH_ADDR", "TWOFOLD_SESSION_ADDR",
		"TWOFOLD_SMTP_URL", "TWOFOLD_MAIL_FROM", "TWOFOLD_PUBLIC_URL",
	})
	app.Main("notifier", required, run)
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
	db, err := parts.Database(ctx, p.Config.DatabaseURL.Reveal(), notifier.Schema, notifier.Migrations())
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the process ends
	nc, err := parts.NATS(p.Config.NATSURL.Reveal(), "notifier", p.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	bus, err := parts.Bus(nc, p)
	if err != nil {
		return err
	}
	authConn, err := parts.Dial(p, source, p.Config.AuthAddr, "auth")
	if err != nil {
		return err
	}
	defer authConn.Close() //nolint:errcheck // the process ends
	sessionConn, err := parts.Dial(p, source, p.Config.SessionAddr, "session")
	if err != nil {
		return err
	}
	defer sessionConn.Close() //nolint:errcheck // the process ends
	sessions := sessionv1.NewSessionServiceClient(sessionConn)
	pool, err := smtppool.New(smtppool.Config{URL: p.Config.SMTPURL.Reveal(), Size: notifier.DefaultWorkers, Now: p.Now})
	if err != nil {
		return err
	}
	defer pool.Close()

	cfg := notifier.Config{PublicURL: p.Config.PublicURL, MailFrom: p.Config.MailFrom, Workers: notifier.DefaultWorkers}
	service, err := notifier.New(cfg, notifier.Deps{
		DB: db, Bus: bus, Agents: authv1.NewAgentServiceClient(authConn), Accounts: authv1.NewAccountServiceClient(authConn),
		Transport: pool, PageTokens: pagetoken.New(keys), Log: p.Log, Metrics: p.Metrics, Now: p.Now,
	})
	if err != nil {
		return err
	}
	door, err := parts.Listen(ctx, p, parts.Server{
		Name: "notifier", Register: []func(grpc.ServiceRegistrar){service.Register},
		Source: source, Verify: verdict.By(sessions),
	})
	if err != nil {
		return err
	}
	return p.Run(ctx, app.Parts{
		Doors: []app.Door{door}, Work: []app.Task{service.Run, followKeys}, Ready: service.Ready,
	})
}
