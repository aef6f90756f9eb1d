package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
)

// ServerOptions record the calls of a server, of the methods it knows: a stranger
// must not be able to make names of spans up.
func (t *Tracer) ServerOptions(knows func(method string) bool) []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(append(t.options(),
		otelgrpc.WithPublicEndpointFn(func(ctx context.Context, _ *stats.RPCTagInfo) bool { return !isTrusted(ctx) }),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return isWork(info.FullMethodName) && knows(info.FullMethodName) }),
	)...))}
}

// DialOptions record the calls made on a connection.
func (t *Tracer) DialOptions() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(append(t.options(),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return isWork(info.FullMethodName) }),
	)...))}
}

func (t *Tracer) options() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagator()),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()), // metrics are Prometheus's part
	}
}

// isWork is false for the questions of probes, which would bury everything else.
func isWork(method string) bool {
	return !strings.HasPrefix(method, "/grpc.health.") && !strings.HasPrefix(method, "/grpc.reflection.")
}

// ContinueCall is Continue for a gRPC call. Its caller is trusted with a trace if
// it has shown a certificate: one of the suite's services, or of the platform.
func ContinueCall(ctx context.Context) context.Context {
	incoming, _ := metadata.FromIncomingContext(ctx)
	return Continue(ctx, callMetadata(incoming), isTrusted(ctx))
}

// OutgoingCall adds the trace of ctx to a call that is about to be made. Where
// calls are recorded it leaves that to the recorder, whose span is the parent then.
func (t *Tracer) OutgoingCall(ctx context.Context) context.Context {
	if t != nil {
		return ctx
	}
	carrier := callMetadata{}
	Inject(ctx, carrier)
	for key, values := range carrier {
		ctx = metadata.AppendToOutgoingContext(ctx, key, values[0])
	}
	return ctx
}

func isTrusted(ctx context.Context) bool {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	tls, ok := from.AuthInfo.(credentials.TLSInfo)
	return ok && len(tls.State.VerifiedChains) > 0
}

// callMetadata lets a propagator read and write the metadata of a call.
type callMetadata metadata.MD

// Get implements propagation.TextMapCarrier.
func (m callMetadata) Get(key string) string {
	if values := metadata.MD(m).Get(key); len(values) == 1 {
		return values[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (m callMetadata) Set(key, value string) { metadata.MD(m).Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (m callMetadata) Keys() []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}
