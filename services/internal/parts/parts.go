package parts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// The variables that the processes require.
var (
	// RequiredTLS is needed by every process of its own.
	RequiredTLS = []string{"TWOFOLD_TLS_CERT", "TWOFOLD_TLS_KEY", "TWOFOLD_TLS_CA"}
	// RequiredStore is needed by every process that keeps something.
	RequiredStore = []string{"TWOFOLD_NATS_URL", "TWOFOLD_KEYS_FILE"}
)

const (
	natsReconnectWait = 500 * time.Millisecond
	redisTimeout      = 3 * time.Second
)

// Database opens a service's own schema and brings it up to date.
func Database(ctx context.Context, url, schema string, migrations fs.FS) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, migrations); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// NATS connects to NATS, and goes on trying for as long as it is away, from the
// start on: what a service has to say waits in its outbox.
func NATS(url, name string, log *slog.Logger, options ...nats.Option) (*nats.Conn, error) {
	options = append([]nats.Option{
		nats.Name("twofold-" + name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(natsReconnectWait),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("Disconnected from NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("Connected to NATS again") }),
	}, options...)
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("parts: connect to NATS: %w", err)
	}
	return nc, nil
}

// Bus returns the event bus on a connection, for a process.
func Bus(nc *nats.Conn, p *app.Process) (*events.Bus, error) {
	return events.NewBus(nc, events.Options{Replicas: p.Config.NATSReplicas, Log: p.Log, Metrics: p.Metrics, Tracing: p.Tracing})
}

// RedisOptions reads redis://host:port/database, rediss:// likewise with TLS,
// or the nodes of a Redis Cluster: redis://host:port?addr=host:port&addr=….
func RedisOptions(url string) (*redis.UniversalOptions, error) {
	o := &redis.UniversalOptions{
		ContextTimeoutEnabled: true,
		DialTimeout:           redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout,
	}
	if one, err := redis.ParseURL(url); err == nil {
		o.Addrs, o.DB, o.Username, o.Password, o.TLSConfig = []string{one.Addr}, one.DB, one.Username, one.Password, one.TLSConfig
		return o, nil
	}
	cluster, err := redis.ParseClusterURL(url)
	if err != nil {
		return nil, errors.New("parts: TWOFOLD_REDIS_URL cannot be read") // the cause may quote a password
	}
	o.Addrs, o.IsClusterMode = cluster.Addrs, true
	o.Username, o.Password, o.TLSConfig = cluster.Username, cluster.Password, cluster.TLSConfig
	return o, nil
}

// Identity returns the process's certificate, read again when its files change.
func Identity(c *app.Config) (mtls.Source, error) {
	return mtls.Files(c.TLSCert, c.TLSKey, c.TLSCA)
}

// Dial returns a connection to the holder of an identity.
func Dial(p *app.Process, source mtls.Source, addr, identity string) (*grpc.ClientConn, error) {
	return grpcx.Dial(addr, grpcx.DialOptions{TLS: mtls.ClientConfig(source, identity), Tracing: p.Tracing})
}

// Server is what the gRPC server of a process is made of.
type Server struct {
	Name     string
	Register []func(grpc.ServiceRegistrar)
	Source   mtls.Source
	Verify   authz.SessionVerifier
}

// Listen opens the address a process serves gRPC at.
func Listen(ctx context.Context, p *app.Process, s Server) (app.Door, error) {
	server, err := grpcx.NewServer(grpcx.ServerConfig{
		Name:          s.Name,
		Register:      s.Register,
		TLS:           mtls.ServerConfig(s.Source),
		VerifySession: s.Verify,
		OperatorToken: p.Config.OperatorToken.Reveal(),
		IsUnavailable: sqldb.IsUnavailable,
		Tracing:       p.Tracing,
		Log:           p.Log,
		Metrics:       p.Metrics,
		Now:           p.Now,
	})
	if err != nil {
		return app.Door{}, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.GRPCAddr)
	if err != nil {
		return app.Door{}, fmt.Errorf("parts: listen: %w", err)
	}
	p.Log.InfoContext(ctx, "Serving gRPC", "addr", listener.Addr().String())
	return app.Door{
		Unready: server.Unready,
		Serve:   func(ctx context.Context) error { return server.Serve(ctx, listener) },
	}, nil
}
