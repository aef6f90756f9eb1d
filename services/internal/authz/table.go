package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	"github.com/twofold-auth/twofold/services/internal/mtls"
)

// AnyIdentity, as a service in an access option, admits every identity of the
// suite's authority.
const AnyIdentity = "*"

// Table says who may call each method of a server, by full method name
// (`/package.Service/Method`). A method that is not in it does not exist.
type Table struct {
	methods map[string]*authzv1.Access
}

// Reflection says who may ask a server what it serves.
type Reflection int

const (
	// ReflectionForIdentities admits the operator and whoever has a certificate.
	ReflectionForIdentities Reflection = iota
	// ReflectionForAnyone is for servers on loopback.
	ReflectionForAnyone
)

// NewTable reads the access options of the services a server has registered. It
// fails, naming the methods, when one says nothing or contradicts itself: a
// server that cannot tell who may call it does not start.
func NewTable(services map[string]grpc.ServiceInfo, reflection Reflection) (*Table, error) {
	t := &Table{methods: map[string]*authzv1.Access{}}
	standard := standardServices(reflection)
	var problems []error
	for service, info := range services {
		for _, method := range info.Methods {
			full := "/" + service + "/" + method.Name
			access, ok := standard[service]
			if !ok {
				access = optionOf(service, method.Name)
			}
			if problem := check(access); problem != "" {
				problems = append(problems, fmt.Errorf("authz: %s %s", full, problem))
				continue
			}
			t.methods[full] = access
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return t, nil
}

// standardServices are those whose protos are not ours to annotate.
func standardServices(reflection Reflection) map[string]*authzv1.Access {
	anyone := &authzv1.Access{Callers: []authzv1.Access_Caller{authzv1.Access_ANYONE}}
	inspectors := &authzv1.Access{
		Callers:  []authzv1.Access_Caller{authzv1.Access_OPERATOR, authzv1.Access_SERVICE},
		Services: []string{AnyIdentity},
	}
	if reflection == ReflectionForAnyone {
		inspectors = anyone
	}
	return map[string]*authzv1.Access{
		// A load balancer has no credentials, and "serving" is no secret.
		grpc_health_v1.Health_ServiceDesc.ServiceName:              anyone,
		reflectionv1.ServerReflection_ServiceDesc.ServiceName:      inspectors,
		reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName: inspectors,
	}
}

// optionOf returns the access option in the proto of a method, or nil.
func optionOf(service, method string) *authzv1.Access {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	descriptor, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	m := descriptor.Methods().ByName(protoreflect.Name(method))
	if m == nil || !proto.HasExtension(m.Options(), authzv1.E_Access) {
		return nil
	}
	access, ok := proto.GetExtension(m.Options(), authzv1.E_Access).(*authzv1.Access)
	if !ok {
		return nil
	}
	return access
}

// check returns what is wrong with an access option, or "".
func check(access *authzv1.Access) string {
	callers := access.GetCallers()
	if len(callers) == 0 {
		return "does not say who may call it (option twofold.authz.v1.access)"
	}
	open := 0
	for _, caller := range callers {
		switch caller {
		case authzv1.Access_ANYONE, authzv1.Access_SIGN_IN_TOKEN:
			open++
		case authzv1.Access_SESSION, authzv1.Access_ADMIN, authzv1.Access_OPERATOR, authzv1.Access_SERVICE:
		default:
			return fmt.Sprintf("admits the kind of caller %s, which does not exist", caller)
		}
	}
	if open > 0 && open < len(callers) {
		// Such a method looks at no credentials, so it could not tell the others.
		return "admits callers without credentials beside callers with them"
	}
	if slices.Contains(callers, authzv1.Access_SERVICE) != (len(access.GetServices()) > 0) {
		return "admits services without naming them, or names services without admitting them"
	}
	for _, service := range access.GetServices() {
		if service != AnyIdentity && !mtls.ValidName(service) {
			return fmt.Sprintf("admits the service %q, which is no identity", service)
		}
	}
	return ""
}

// Access returns who may call a method, or nil when there is no such method.
func (t *Table) Access(fullMethod string) *authzv1.Access { return t.methods[fullMethod] }

// Methods returns the full names of all methods, sorted.
func (t *Table) Methods() []string {
	methods := make([]string, 0, len(t.methods))
	for method := range t.methods {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	return methods
}

// needsSessions returns a method that admits people, or "".
func (t *Table) needsSessions() string {
	for _, method := range t.Methods() {
		callers := t.methods[method].GetCallers()
		if slices.Contains(callers, authzv1.Access_SESSION) || slices.Contains(callers, authzv1.Access_ADMIN) {
			return method
		}
	}
	return ""
}
