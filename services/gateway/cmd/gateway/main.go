// The gateway serves REST for frontends, and the rollout over gRPC.
package main

import (
	"context"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/gateway"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/internal/verdict"
)

func main() {
	required := slices.Concat(parts.RequiredTLS,
		[]string{"TWOFOLD_POLICY_ADDR", "TWOFOLD_AUTH_ADDR", "TWOFOLD_SESSION_ADDR", "TWOFOLD_NOTIFIER_ADDR"})
	app.Main("gateway", required, run)
}

func run(ctx context.Context, p *app.Process) error {
	source, err := parts.Identity(p.Config)
	if err != nil {
		return err
	}
	conns := map[string]*grpc.ClientConn{}
	for identity, addr := range map[string]string{
		"policy": p.Config.PolicyAddr, "auth": p.Config.AuthAddr, "session": p.Config.SessionAddr, "notifier": p.Config.NotifierAddr,
		"gateway": p.Config.GRPCAddr, // the rollout's routes call this process itself
	} {
		conn, err := parts.Dial(p, source, addr, identity)
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // the process ends
		conns[identity] = conn
	}
	ready := map[string]func(context.Context) error{}
	for identity, conn := range conns {
		ready[identity] = func(ctx context.Context) error { return answers(ctx, conn) }
	}
	cfg := gateway.DefaultConfig()
	cfg.TrustedProxies, cfg.StopTimeout = p.Config.TrustedProxies, p.Config.CallShutdownTimeout()
	service, err := gateway.New(cfg, gateway.Deps{ //nolint:contextcheck // it starts nothing
		Policy: conns["policy"], Auth: conns["auth"], Session: conns["session"], Notifier: conns["notifier"], Self: conns["gateway"],
		Ready: ready, Now: p.Now, Log: p.Log, Metrics: p.Metrics, Tracing: p.Tracing,
	})
	if err != nil {
		return err
	}
	door, err := parts.Listen(ctx, p, parts.Server{
		Name: "gateway", Register: []func(grpc.ServiceRegistrar){service.Register}, Source: source,
		Verify: verdict.By(sessionv1.NewSessionServiceClient(conns["session"])),
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.HTTPAddr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.Log.InfoContext(ctx, "Serving REST", "addr", listener.Addr().String())
	return p.Run(ctx, app.Parts{
		Front: []app.Door{{
			Unready: service.Unready,
			Serve:   func(ctx context.Context) error { return service.Serve(ctx, listener) },
		}},
		Doors: []app.Door{door}, Ready: service.Ready,
	})
}

// answers says whether a neighbor serves.
func answers(ctx context.Context, conn *grpc.ClientConn) error {
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s", answer.GetStatus())
	}
	return nil
}
