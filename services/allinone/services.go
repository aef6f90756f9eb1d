package allinone

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/auth/password"
	"github.com/twofold-auth/twofold/services/gateway"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/verdict"
	"github.com/twofold-auth/twofold/services/notifier"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
	"github.com/twofold-auth/twofold/services/policy"
	"github.com/twofold-auth/twofold/services/session"
)

// verdictBudget is how long a verdict may take.
const verdictBudget = time.Second

// buildServices builds the five services as their own processes do, the ones
// that are called before the ones that call.
func (s *Suite) buildServices(ctx context.Context, rest net.Listener) error {
	sessions, err := s.buildSession(ctx)
	if err != nil {
		return err
	}
	policies, err := s.buildPolicy(ctx)
	if err != nil {
		return err
	}
	agents, err := s.buildAuth(ctx)
	if err != nil {
		return err
	}
	notices, err := s.buildNotifier(ctx)
	if err != nil {
		return err
	}
	edge, err := s.buildGateway(rest) //nolint:contextcheck // it registers routes, which wait for nothing
	if err != nil {
		return err
	}
	verify, err := s.verifier("gateway")
	if err != nil {
		return err
	}
	addr, door, err := s.network.servePublic(ctx, []func(grpc.ServiceRegistrar){
		policies.Register, agents.Register, sessions.Register, notices.Register, edge.Register,
	}, verify)
	if err != nil {
		return err
	}
	s.GRPCAddr = addr
	s.parts.Front = append(s.parts.Front, door)
	if s.process.Config.NoDemo {
		return nil
	}
	return s.prepareDemo()
}

// verifier returns the verifier of a service, which asks the session service.
func (s *Suite) verifier(name string) (authz.SessionVerifier, error) {
	conn, err := s.network.dial(name, "session")
	if err != nil {
		return nil, err
	}
	return verdict.By(sessionv1.NewSessionServiceClient(conn)), nil
}

// add serves a service to its neighbors.
func (s *Suite) add(name string, register func(grpc.ServiceRegistrar), verify authz.SessionVerifier) error {
	door, err := s.network.serve(name, register, verify)
	if err != nil {
		return err
	}
	s.parts.Doors = append(s.parts.Doors, door)
	return nil
}

func (s *Suite) buildSession(context.Context) (*session.Service, error) {
	everything := redis.NewUniversalClient(s.redis)
	verdicts := redis.NewUniversalClient(session.VerdictOptions(*s.redis, verdictBudget))
	s.onClose(func() { _, _ = everything.Close(), verdicts.Close() })
	svc, err := session.New(session.Config{}, session.Deps{
		Redis: everything, Verdicts: verdicts, Bus: s.bus, Pages: pagetoken.New(s.keys),
		Now: s.process.Now, Log: s.process.Log.With("service", "session"), Metrics: s.process.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.ready["session"] = svc.Ready
	s.parts.Work, s.parts.Outboxes = append(s.parts.Work, svc.Run), append(s.parts.Outboxes, svc.Publish)
	return svc, s.add("session", svc.Register, svc.Verifier())
}

func (s *Suite) buildPolicy(ctx context.Context) (*policy.Service, error) {
	db, err := s.database(ctx, policy.Schema, policy.Migrations())
	if err != nil {
		return nil, err
	}
	sessions, err := s.network.dial("policy", "session")
	if err != nil {
		return nil, err
	}
	verify, err := s.verifier("policy")
	if err != nil {
		return nil, err
	}
	svc, err := policy.New(policy.Config{
		MinGracePeriod: s.process.Config.MinGracePeriod, DefaultGracePeriod: s.process.Config.DefaultGracePeriod,
	}, policy.Deps{
		DB: db, Bus: s.bus, Sessions: sessionv1.NewSessionServiceClient(sessions), PageTokens: pagetoken.New(s.keys),
		Log: s.process.Log.With("service", "policy"), Metrics: s.process.Metrics, Now: s.process.Now,
	})
	if err != nil {
		return nil, err
	}
	s.parts.Work, s.parts.Outboxes = append(s.parts.Work, svc.Run), append(s.parts.Outboxes, svc.Publish)
	return svc, s.add("policy", svc.Register, verify)
}

func (s *Suite) buildAuth(ctx context.Context) (*auth.Service, error) {
	db, err := s.database(ctx, auth.Schema, auth.Migrations())
	if err != nil {
		return nil, err
	}
	policies, err := s.network.dial("auth", "policy")
	if err != nil {
		return nil, err
	}
	sessions, err := s.network.dial("auth", "session")
	if err != nil {
		return nil, err
	}
	verify, err := s.verifier("auth")
	if err != nil {
		return nil, err
	}
	svc, err := auth.New(auth.DefaultConfig(), auth.Deps{
		DB: db, Bus: s.bus, Policies: policyv1.NewPolicyServiceClient(policies), Sessions: sessionv1.NewSessionServiceClient(sessions),
		Keys: s.keys, Passwords: password.New(password.Config{}), Now: s.process.Now,
		Log: s.process.Log.With("service", "auth"), Metrics: s.process.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.parts.Work, s.parts.Outboxes = append(s.parts.Work, svc.Run), append(s.parts.Outboxes, svc.Publish)
	return svc, s.add("auth", svc.Register, verify)
}

func (s *Suite) buildNotifier(ctx context.Context) (*notifier.Service, error) {
	db, err := s.database(ctx, notifier.Schema, notifier.Migrations())
	if err != nil {
		return nil, err
	}
	agents, err := s.network.dial("notifier", "auth")
	if err != nil {
		return nil, err
	}
	verify, err := s.verifier("notifier")
	if err != nil {
		return nil, err
	}
	transport, err := smtppool.New(smtppool.Config{URL: s.process.Config.SMTPURL.Reveal(), Now: s.process.Now})
	if err != nil {
		return nil, err
	}
	s.onClose(transport.Close)
	svc, err := notifier.New(notifier.Config{
		PublicURL: s.process.Config.PublicURL, MailFrom: s.process.Config.MailFrom,
	}, notifier.Deps{
		DB: db, Bus: s.bus, Agents: authv1.NewAgentServiceClient(agents), Accounts: authv1.NewAccountServiceClient(agents),
		Transport: transport, PageTokens: pagetoken.New(s.keys), Now: s.process.Now,
		Log: s.process.Log.With("service", "notifier"), Metrics: s.process.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.parts.Work = append(s.parts.Work, svc.Run)
	return svc, s.add("notifier", svc.Register, verify)
}

func (s *Suite) buildGateway(rest net.Listener) (*gateway.Service, error) {
	conns := map[string]*grpc.ClientConn{}
	for _, name := range []string{"policy", "auth", "session", "notifier", "gateway"} {
		conn, err := s.network.dial("gateway", name)
		if err != nil {
			return nil, err
		}
		conns[name] = conn
	}
	cfg := gateway.DefaultConfig()
	cfg.TrustedProxies, cfg.StopTimeout = s.process.Config.TrustedProxies, s.process.Config.CallShutdownTimeout()
	svc, err := gateway.New(cfg, gateway.Deps{
		Policy: conns["policy"], Auth: conns["auth"], Session: conns["session"], Notifier: conns["notifier"], Self: conns["gateway"],
		Ready: s.ready, Pages: s.pages(), Now: s.process.Now, Log: s.process.Log.With("service", "gateway"),
		Metrics: s.process.Metrics, Tracing: s.process.Tracing,
	})
	if err != nil {
		return nil, err
	}
	s.parts.Front = append(s.parts.Front, app.Door{
		Unready: svc.Unready,
		Serve:   func(ctx context.Context) error { return svc.Serve(ctx, rest) },
	})
	return svc, s.add("gateway", svc.Register, verdict.By(sessionv1.NewSessionServiceClient(conns["session"])))
}
