package grpcx_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// The probe is a service with a method for every way a method can be declared.
// It exists only here, so the tests do not change when the product's methods do.
const (
	probeService    = "twofold.probe.v1.ProbeService"
	nakedService    = "twofold.probe.v1.NakedService"
	confusedService = "twofold.probe.v1.ConfusedService"
)

var probeMethods = map[string]*authzv1.Access{
	"Anyone":          access(nil, authzv1.Access_ANYONE),
	"SignInToken":     access(nil, authzv1.Access_SIGN_IN_TOKEN),
	"Session":         access(nil, authzv1.Access_SESSION),
	"Admin":           access(nil, authzv1.Access_ADMIN),
	"Operator":        access(nil, authzv1.Access_OPERATOR),
	"AdminOrOperator": access(nil, authzv1.Access_ADMIN, authzv1.Access_OPERATOR),
	"Service":         access([]string{"auth"}, authzv1.Access_SERVICE),
	"OperatorOrAuth":  access([]string{"auth"}, authzv1.Access_OPERATOR, authzv1.Access_SERVICE),
	"AdminOrGateway":  access([]string{"gateway"}, authzv1.Access_ADMIN, authzv1.Access_SERVICE),
}

// Watch is the streaming one: requests in, responses out.
var probeStreams = map[string]*authzv1.Access{"Watch": access(nil, authzv1.Access_SESSION)}

func access(services []string, callers ...authzv1.Access_Caller) *authzv1.Access {
	return &authzv1.Access{Callers: callers, Services: services}
}

// registerProbeFile makes the descriptors known, as generated code would.
var registerProbeFile = sync.OnceValue(func() error {
	method := func(name string, a *authzv1.Access, streams bool) *descriptorpb.MethodDescriptorProto {
		m := &descriptorpb.MethodDescriptorProto{
			Name:            proto.String(name),
			InputType:       proto.String(".twofold.session.v1.ValidateSessionRequest"),
			OutputType:      proto.String(".twofold.session.v1.ValidateSessionResponse"),
			ClientStreaming: proto.Bool(streams), ServerStreaming: proto.Bool(streams),
		}
		if a != nil {
			m.Options = &descriptorpb.MethodOptions{}
			proto.SetExtension(m.Options, authzv1.E_Access, a)
		}
		return m
	}
	probe := &descriptorpb.ServiceDescriptorProto{Name: proto.String("ProbeService")}
	for name, a := range probeMethods {
		probe.Method = append(probe.Method, method(name, a, false))
	}
	for name, a := range probeStreams {
		probe.Method = append(probe.Method, method(name, a, true))
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("twofold/probe/v1/probe.proto"), Package: proto.String("twofold.probe.v1"), Syntax: proto.String("proto3"),
		Dependency: []string{"twofold/authz/v1/access.proto", "twofold/session/v1/session_service.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{
			probe,
			{Name: proto.String("NakedService"), Method: []*descriptorpb.MethodDescriptorProto{
				method("Forgotten", nil, false), method("AlsoForgotten", nil, true), method("Declared", access(nil, authzv1.Access_ANYONE), false),
			}},
			{Name: proto.String("ConfusedService"), Method: []*descriptorpb.MethodDescriptorProto{
				method("Unspecified", access(nil, authzv1.Access_CALLER_UNSPECIFIED), false),
			}},
		},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(file)
})

// probe is the service's implementation: what a test wants it to be.
type probe struct {
	handle func(ctx context.Context, request *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error)
	stream func(stream grpc.ServerStream) error
}

// register registers the probe service.
func (p *probe) register(t *testing.T) func(grpc.ServiceRegistrar) {
	require.NoError(t, registerProbeFile())
	desc := &grpc.ServiceDesc{ServiceName: probeService, HandlerType: (*any)(nil)}
	for name := range probeMethods {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: name, Handler: p.unaryHandler("/" + probeService + "/" + name)})
	}
	for name := range probeStreams {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: name, ClientStreams: true, ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return p.stream(stream) },
		})
	}
	return func(r grpc.ServiceRegistrar) { r.RegisterService(desc, p) }
}

// unaryHandler does what protoc-gen-go-grpc generates.
func (p *probe) unaryHandler(fullMethod string) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := new(sessionv1.ValidateSessionRequest)
		if err := decode(in); err != nil {
			return nil, err
		}
		return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod}, func(ctx context.Context, req any) (any, error) {
			return p.handle(ctx, req.(*sessionv1.ValidateSessionRequest))
		})
	}
}
