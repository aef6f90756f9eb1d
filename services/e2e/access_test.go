package e2e

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// kind is a kind of caller, as an access option tells them apart.
type kind struct {
	name     string
	token    func() string // the bearer token, if any
	identity string        // of the certificate, if any
	is       []authzv1.Access_Caller
	stranger bool // to the account that requests name
}

// admitted says whether a method is for a kind of caller.
func (k kind) admitted(access *authzv1.Access) bool {
	if !slices.ContainsFunc(access.GetCallers(), func(c authzv1.Access_Caller) bool { return c != authzv1.Access_SERVICE }) {
		// Methods for services look at the certificate alone.
		return k.named(access)
	}
	for _, caller := range access.GetCallers() {
		switch {
		case caller == authzv1.Access_ANYONE, caller == authzv1.Access_SIGN_IN_TOKEN:
			return true // what they send decides
		case !slices.Contains(k.is, caller):
		case caller != authzv1.Access_SERVICE, k.named(access):
			return true
		}
	}
	return false
}

// named says whether a method names a kind of caller as a service. Teams of the
// platform go by its name.
func (k kind) named(access *authzv1.Access) bool {
	service, _, _ := strings.Cut(k.identity, "/")
	return slices.Contains(access.GetServices(), service)
}

// method is an RPC that a server has.
type method struct {
	full   string
	access *authzv1.Access
	desc   protoreflect.MethodDescriptor
}

// methods asks a server which services it has, and returns their methods. Health
// and reflection, which every gRPC server may have, are not among them.
func methods(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface) (all []method) {
	t.Helper()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	response, err := stream.Recv()
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	for _, service := range response.GetListServicesResponse().GetService() {
		if strings.HasPrefix(service.GetName(), "grpc.health.v1.") || strings.HasPrefix(service.GetName(), "grpc.reflection.") {
			continue
		}
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service.GetName()))
		require.NoError(t, err)
		desc, ok := found.(protoreflect.ServiceDescriptor)
		require.True(t, ok)
		for i := range desc.Methods().Len() {
			m := desc.Methods().Get(i)
			access, ok := proto.GetExtension(m.Options(), authzv1.E_Access).(*authzv1.Access)
			require.True(t, ok)
			require.NotEmpty(t, access.GetCallers(), m.FullName())
			all = append(all, method{full: "/" + service.GetName() + "/" + string(m.Name()), access: access, desc: m})
		}
	}
	require.NotEmpty(t, all)
	return all
}

// cast is an account with callers of each kind, and another account.
type cast struct {
	running
	account, other string
	target         string // the agent that requests are about
	tokens         map[string]string
}

// newCast makes them.
func newCast(t *testing.T, r running) *cast {
	t.Helper()
	c := &cast{
		running: r, account: "cast-" + strings.ToLower(rand.Text()[:10]), other: "other-" + strings.ToLower(rand.Text()[:10]),
		tokens: map[string]string{"nobody's token": "nobody-s-token", "the operator's token": operatorToken},
	}
	ctx := bearer(t.Context(), operatorToken)
	for _, account := range []string{c.account, c.other} {
		_, err := authv1.NewAccountServiceClient(r.connect("auth")).CreateAccount(ctx, &authv1.CreateAccountRequest{
			AccountId: account, DisplayName: "Cast",
			Owner: &authv1.CreateAccountRequest_Owner{Email: "owner@cast.example", DisplayName: "Owner", Password: password},
		})
		require.NoError(t, err)
	}
	agents := authv1.NewAgentServiceClient(r.connect("auth"))
	for _, name := range []string{"agent", "challenged", "target"} {
		response, err := agents.CreateAgent(ctx, &authv1.CreateAgentRequest{
			Parent: "accounts/" + c.account, Email: name + "@cast.example", DisplayName: name, Password: password,
		})
		require.NoError(t, err)
		c.target = response.GetAgent().GetName()
	}
	c.setUp(t, c.account, "challenged@cast.example")
	next, err := authv1.NewSignInServiceClient(r.connect("auth")).SignIn(t.Context(), &authv1.SignInRequest{
		Account: c.account, Email: "challenged@cast.example", Password: password, Client: sessionv1.Client_WEB,
	})
	require.NoError(t, err)
	require.NotEmpty(t, next.GetChallenge().GetSignInToken())
	c.tokens["a sign-in token"] = next.GetChallenge().GetSignInToken()
	for _, name := range []string{"an agent", "an admin", "another account's admin"} {
		c.renew(t, name)
	}
	return c
}

// renew gives somebody a session.
func (c *cast) renew(t *testing.T, name string) {
	t.Helper()
	switch name {
	case "an agent":
		c.tokens[name] = c.signIn(t, c.account, "agent@cast.example", sessionv1.Client_WEB)
	case "an admin":
		c.tokens[name] = c.signIn(t, c.account, "owner@cast.example", sessionv1.Client_WEB)
	case "another account's admin":
		c.tokens[name] = c.signIn(t, c.other, "owner@cast.example", sessionv1.Client_WEB)
	}
}

// people are the kinds of caller that come with a bearer token, or with nothing.
func (c *cast) people(identity string) []kind {
	const (
		session, admin, operator = authzv1.Access_SESSION, authzv1.Access_ADMIN, authzv1.Access_OPERATOR
	)
	kinds := []kind{{name: "nothing", identity: identity, token: func() string { return "" }}}
	for name, is := range map[string][]authzv1.Access_Caller{
		"nobody's token": nil, "a sign-in token": nil, "an agent": {session}, "an admin": {session, admin},
		"another account's admin": {session, admin}, "the operator's token": {operator},
	} {
		kinds = append(kinds, kind{
			name: name, identity: identity, is: is, stranger: name == "another account's admin",
			token: func() string { return c.tokens[name] },
		})
	}
	return kinds
}

// request returns a message that names the account, and is otherwise valid where
// that matters: a caller of another account must learn nothing from a mistake.
func (c *cast) request(t *testing.T, m method) (request proto.Message, namesAccount bool) {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.desc.Input().FullName())
	require.NoError(t, err)
	request = kind.New().Interface()
	switch r := request.(type) {
	case *authv1.CreateAgentRequest:
		r.Email, r.DisplayName, r.Password = "new@cast.example", "New", password
	case *authv1.ImportAgentsRequest:
		r.Agents = []*authv1.ImportAgentsRequest_Row{{Email: "new@cast.example", DisplayName: "New", PasswordHash: passwordHash}}
	case *policyv1.UpdateMfaPolicyRequest:
		r.MfaPolicy = &policyv1.MfaPolicy{}
	case *policyv1.PreviewMfaPolicyRequest:
		r.MfaPolicy = &policyv1.MfaPolicy{Name: "accounts/" + c.account + "/mfaPolicy"}
		return r, true
	case *rolloutv1.PreviewRolloutRequest:
		r.Policy = &policyv1.MfaPolicy{}
	}
	rule, _ := proto.GetExtension(m.desc.Options(), annotations.E_Http).(*annotations.HttpRule)
	path := rule.GetGet() + rule.GetPost() + rule.GetPatch() + rule.GetDelete()
	_, binding, ok := strings.Cut(path, "{")
	if !ok || !strings.Contains(binding, "=accounts/") {
		return request, false
	}
	field, rest, _ := strings.Cut(binding, "=")
	name, _, _ := strings.Cut(rest, "}")
	name = strings.ReplaceAll(name, "accounts/*/agents/*", c.target)
	name = strings.ReplaceAll(name, "accounts/*", "accounts/"+c.account)
	name = strings.ReplaceAll(name, "*", "0190a2b4-0000-7000-8000-000000000000")
	set(request.ProtoReflect(), strings.Split(field, "."), name)
	return request, true
}

// set sets a string field by its path.
func set(message protoreflect.Message, path []string, value string) {
	field := message.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if len(path) == 1 {
		message.Set(field, protoreflect.ValueOfString(value))
		return
	}
	set(message.Mutable(field).Message(), path[1:], value)
}

// invoke calls a method and returns how it answered at first.
func invoke(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, m method, request proto.Message) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.desc.Output().FullName())
	require.NoError(t, err)
	if !m.desc.IsStreamingServer() {
		return conn.Invoke(ctx, m.full, request, kind.New().Interface())
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, m.full)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(request))
	require.NoError(t, stream.CloseSend())
	return stream.RecvMsg(kind.New().Interface())
}

// Reasons with which the chain turns a caller away, before it looks at a request.
var turnedAway = []string{"CREDENTIALS_MISSING", "CREDENTIALS_MALFORMED", "SESSION_UNKNOWN", "CALLER_NOT_PERMITTED"}

// try calls a method as one kind of caller and compares with what its proto says.
func (c *cast) try(t *testing.T, conn grpc.ClientConnInterface, m method, k kind) {
	t.Helper()
	request, namesAccount := c.request(t, m)
	err := invoke(bearer(t.Context(), k.token()), t, conn, m, request)
	code, reason := status.Code(err), reasonOf(err)
	if m.desc.Name() == "SignOut" {
		c.renew(t, k.name)
	}
	what := m.full + " called by " + k.name + " " + k.identity
	if err != nil {
		require.NotEmpty(t, reason, "%s: %v", what, err)
		require.NotEqual(t, codes.Internal, code, "%s: %v", what, err)
		require.NotEqual(t, codes.Unavailable, code, "%s: %v", what, err)
	}
	if !k.admitted(m.access) {
		require.Contains(t, []codes.Code{codes.Unauthenticated, codes.PermissionDenied}, code, "%s: %v", what, err)
		require.Contains(t, turnedAway, reason, what)
		return
	}
	if k.stranger && namesAccount {
		require.Equal(t, codes.NotFound, code, "%s: %v", what, err)
		require.Equal(t, "RESOURCE_NOT_FOUND", reason, what)
		return
	}
	if reason == "SESSION_UNKNOWN" && m.desc.Name() == "ValidateSession" {
		return // the verdict that was asked for
	}
	require.NotContains(t, turnedAway, reason, what)
}

// People, and those without credentials, at the one server that admits them
// without a certificate.
func TestAccess_publicServer(t *testing.T) {
	r := startAllInOne(t)
	all := methods(t.Context(), t, r.connect("any"))
	require.Greater(t, len(all), 40)
	c := newCast(t, r)
	for _, m := range all {
		for _, k := range c.people("") {
			c.try(t, r.connect("any"), m, k)
		}
	}
}

// Every identity, and people through the gateway, at the servers of the five
// processes.
func TestAccess_identities(t *testing.T) {
	p := startProcesses(t)
	c := newCast(t, p.running)
	served := map[string][]method{}
	asOperator := p.connectAs(t, "operator")
	for _, name := range services() {
		served[name] = methods(t.Context(), t, asOperator(name))
	}
	kinds := c.people("gateway")
	for _, identity := range []string{"policy", "auth", "session", "notifier", "gateway", "platform", "platform/billing", "billing"} {
		kinds = append(kinds, kind{
			name: "the service", identity: identity, token: func() string { return "" }, is: []authzv1.Access_Caller{authzv1.Access_SERVICE},
		})
	}
	kinds = append(kinds, kind{
		name: "the operator's certificate", identity: "operator", token: func() string { return "" }, is: []authzv1.Access_Caller{authzv1.Access_OPERATOR},
	})
	for _, k := range kinds {
		connect := p.connectAs(t, k.identity)
		for _, name := range services() {
			for _, m := range served[name] {
				if k.name == "nothing" && k.named(m.access) {
					continue // then it is the gateway itself
				}
				c.try(t, connect(name), m, k)
			}
		}
	}
	for name, addr := range p.addrs {
		conn := dial(t, addr, nil, "")
		err := conn.Invoke(t.Context(), "/twofold.auth.v1.SignInService/SignIn", &authv1.SignInRequest{}, &authv1.SignInResponse{})
		require.Equal(t, codes.Unavailable, status.Code(err), "%s answered somebody without TLS: %v", name, err)
	}
}
