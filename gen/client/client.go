package client

import (
	_ "embed" // the service config
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/health" // lets a connection watch the health of its server
	"google.golang.org/grpc/keepalive"
)

// ServiceConfig is the gRPC service config of the suite, as JSON for clients in
// any language: calls go to all replicas in turn that say they are healthy, wait
// within their deadline for one that is starting, and are repeated on UNAVAILABLE
// if they only read. Calls that change something are never repeated: only the
// caller knows whether they carry a request_id.
//
//go:embed service_config.json
var ServiceConfig string

const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// Dial returns a connection to a service by its address and its identity, such as
// "dns:///session.twofold:9090" and "session". It connects when it is first used,
// and again whenever it must; keep one for as long as the program runs.
//
// The name should resolve to the addresses of all replicas: in Kubernetes, that
// of a headless Service. Options given here come after Dial's own.
func Dial(target, identity string, files Files, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	config, err := TLSConfig(identity, files)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithDisableServiceConfig(), // a name server has no say in it
		// A server that went without a word is noticed; servers allow one each 15 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("client: dial %s: %w", target, err)
	}
	return conn, nil
}
