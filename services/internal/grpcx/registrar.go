package grpcx

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/grpc"
)

// registrar collects services before there is a server. The chain must know the
// methods when the server is made; and grpc.Server ends the process when a
// registration is wrong, where an error is enough.
type registrar struct {
	services  []registration
	omit      []string
	observers map[string]Observer // by service
	problems  []error
}

type registration struct {
	desc *grpc.ServiceDesc
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (r *registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if slices.Contains(r.omit, desc.ServiceName) {
		return
	}
	want := reflect.TypeOf(desc.HandlerType).Elem()
	if impl == nil || !reflect.TypeOf(impl).Implements(want) {
		r.problems = append(r.problems, fmt.Errorf("grpcx: %T does not implement %s", impl, desc.ServiceName))
		return
	}
	for _, s := range r.services {
		if s.desc.ServiceName == desc.ServiceName {
			r.problems = append(r.problems, fmt.Errorf("grpcx: %s is registered twice", desc.ServiceName))
			return
		}
	}
	r.services = append(r.services, registration{desc, impl})
}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (r *registrar) GetServiceInfo() map[string]grpc.ServiceInfo {
	infos := make(map[string]grpc.ServiceInfo, len(r.services))
	for _, s := range r.services {
		info := grpc.ServiceInfo{Metadata: s.desc.Metadata}
		for _, m := range s.desc.Methods {
			info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.MethodName})
		}
		for _, m := range s.desc.Streams {
			info.Methods = append(info.Methods, grpc.MethodInfo{
				Name: m.StreamName, IsClientStream: m.ClientStreams, IsServerStream: m.ServerStreams,
			})
		}
		infos[s.desc.ServiceName] = info
	}
	return infos
}

// registerWith hands the services to the real server.
func (r *registrar) registerWith(server *grpc.Server) {
	for _, s := range r.services {
		desc := *s.desc
		desc.Methods = make([]grpc.MethodDesc, len(s.desc.Methods))
		for i, m := range s.desc.Methods {
			desc.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: decodeInChain(m.Handler)}
		}
		server.RegisterService(&desc, s.impl)
	}
}

// decodeInChain lets the chain see requests that cannot be decoded. Generated
// code reads a request before it calls the interceptor and answers a bad one by
// itself: without a reason, unmeasured, and before anybody asked who is calling.
func decodeInChain(handler grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		var failure error
		return handler(srv, ctx,
			func(message any) error {
				failure = receive(decode, message)
				return nil
			},
			func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				if failure != nil {
					request = undecoded{failure}
				}
				return chain(ctx, request, info, next)
			})
	}
}
