// The session service keeps sessions and gives the verdict on tokens.
package main

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/session"
)

// verdictBudget is how long the store may take over a verdict.
const verdictBudget = time.Second

func main() {
	app.Main("session", slices.Concat(parts.RequiredTLS, parts.RequiredStore, []string{"TWOFOLD_REDIS_URL"}), run)
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
	options, err := parts.RedisOptions(p.Config.RedisURL.Reveal())
	if err != nil {
		return err
	}
	store := redis.NewUniversalClient(options)
	defer store.Close() //nolint:errcheck // the process ends
	verdicts := redis.NewUniversalClient(session.VerdictOptions(*options, verdictBudget))
	defer verdicts.Close() //nolint:errcheck // the process ends
	nc, err := parts.NATS(p.Config.NATSURL.Reveal(), "session", p.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	bus, err := parts.Bus(nc, p)
	if err != nil {
		return err
	}
	service, err := session.New(session.Config{}, session.Deps{
		Redis: store, Verdicts: verdicts, Bus: bus, Pages: pagetoken.New(keys),
		Now: p.Now, Log: p.Log, Metrics: p.Metrics,
	})
	if err != nil {
		return err
	}
	door, err := parts.Listen(ctx, p, parts.Server{
		Name: "session", Register: []func(grpc.ServiceRegistrar){service.Register},
		Source: source, Verify: service.Verifier(),
	})
	if err != nil {
		return err
	}
	return p.Run(ctx, app.Parts{
		Doors: []app.Door{door}, Work: []app.Task{service.Run, followKeys}, Outboxes: []app.Task{service.Publish}, Ready: service.Ready,
	})
}
