package allinone

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// connBuffer is how many bytes a connection in memory holds.
const connBuffer = 256 << 10

// identities are the holders of a certificate.
var identities = []string{"policy", "auth", "session", "notifier", "gateway", "operator"}

// network connects the services within the process: a listener in memory for
// each, and mutual TLS between them.
type network struct {
	process   *app.Process
	sources   map[string]mtls.Source
	listeners map[string]*bufconn.Listener
	conns     []*grpc.ClientConn
}

func newNetwork(p *app.Process) (*network, error) {
	authority, err := mtls.NewAuthority(p.Now)
	if err != nil {
		return nil, err
	}
	n := &network{process: p, sources: map[string]mtls.Source{}, listeners: map[string]*bufconn.Listener{}}
	for _, identity := range identities {
		if n.sources[identity], err = authority.Source(identity); err != nil {
			return nil, err
		}
		n.listeners[identity] = bufconn.Listen(connBuffer)
	}
	return n, nil
}

// dial returns the connection on which one service calls another.
func (n *network) dial(from, to string) (*grpc.ClientConn, error) {
	listener := n.listeners[to]
	conn, err := grpcx.Dial("passthrough:///"+to, grpcx.DialOptions{
		TLS:     mtls.ClientConfig(n.sources[from], to),
		Dialer:  func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) },
		Tracing: n.process.Tracing,
	})
	if err != nil {
		return nil, err
	}
	n.conns = append(n.conns, conn)
	return conn, nil
}

// close ends the connections.
func (n *network) close() {
	for _, conn := range n.conns {
		_ = conn.Close() // the process ends
	}
}

// serve returns the door of a service for its neighbors.
func (n *network) serve(name string, register func(grpc.ServiceRegistrar), verify authz.SessionVerifier) (app.Door, error) {
	server, err := grpcx.NewServer(grpcx.ServerConfig{
		Name: name, Register: []func(grpc.ServiceRegistrar){register}, TLS: mtls.ServerConfig(n.sources[name]),
		VerifySession: verify, OperatorToken: n.process.Config.OperatorToken.Reveal(), IsUnavailable: sqldb.IsUnavailable,
		StopTimeout: n.process.Config.CallShutdownTimeout(),
		Tracing:     n.process.Tracing, Log: n.process.Log, Metrics: n.process.Metrics, Now: n.process.Now,
	})
	if err != nil {
		return app.Door{}, err
	}
	return doorOf(server, n.listeners[name]), nil
}

// servePublic returns the door of all services for the machine, and where it is.
// Callers there have no certificate, so methods for services stay closed.
func (n *network) servePublic(ctx context.Context, register []func(grpc.ServiceRegistrar), verify authz.SessionVerifier) (addr string, door app.Door, err error) {
	server, err := grpcx.NewServer(grpcx.ServerConfig{
		Name: "public", Register: register, Plaintext: true, Reflection: authz.ReflectionForAnyone,
		// Policy, auth and notifier each have one, for the gateway alone.
		Omit:          []string{auditv1.AuditTrailService_ServiceDesc.ServiceName},
		VerifySession: verify, OperatorToken: n.process.Config.OperatorToken.Reveal(), IsUnavailable: sqldb.IsUnavailable,
		StopTimeout: n.process.Config.CallShutdownTimeout(),
		Tracing:     n.process.Tracing, Log: n.process.Log, Metrics: n.process.Metrics, Now: n.process.Now,
	})
	if err != nil {
		return "", app.Door{}, err
	}
	listener, err := listenOnLoopback(ctx, n.process.Config.GRPCAddr)
	if err != nil {
		return "", app.Door{}, err
	}
	return listener.Addr().String(), doorOf(server, listener), nil
}

func doorOf(server *grpcx.Server, listener net.Listener) app.Door {
	return app.Door{
		Unready: server.Unready,
		Serve:   func(ctx context.Context) error { return server.Serve(ctx, listener) },
	}
}

// listenOnLoopback refuses every other address: the all-in-one speaks without TLS.
func listenOnLoopback(ctx context.Context, addr string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("allinone: listen: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = listener.Close()
		return nil, fmt.Errorf("allinone: %s is not a loopback address, and the all-in-one is for one machine; "+
			"run the five services to serve others", addr)
	}
	return listener, nil
}
