package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/gateway"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
	"github.com/twofold-auth/twofold/services/internal/mtls"
	"github.com/twofold-auth/twofold/services/internal/tracing"
	"github.com/twofold-auth/twofold/services/internal/verdict"
)

const operatorToken = "operator-token-of-the-tests"

// suite is a gateway on a loopback port, over mutual TLS in memory to four
// services that record what they are asked, behind the real chain.
type suite struct {
	t         *testing.T
	url       string
	gateway   *gateway.Service
	authority *mtls.Authority
	listeners map[string]*bufconn.Listener
	stops     map[string]func()

	mu      sync.Mutex
	calls   []call
	answers map[string]answerFunc
	over    map[string]bool // tokens whose sessions are over
	log     bytes.Buffer
	metrics *prometheus.Registry
}

// call is what a service was asked.
type call struct {
	method  string
	request proto.Message
	md      metadata.MD
	caller  *authz.Caller
}

type answerFunc func(ctx context.Context, request proto.Message) (proto.Message, error)

type options struct {
	config gateway.Config
	now    func() time.Time
	ready  map[string]func(context.Context) error
	pages  map[string]http.Handler
	// tracing records what the gateway does.
	tracing *tracing.Tracer
}

func newSuite(t *testing.T, changes ...func(*options)) *suite {
	o := options{config: gateway.DefaultConfig(), now: time.Now}
	for _, change := range changes {
		change(&o)
	}
	authority, err := mtls.NewAuthority(time.Now)
	require.NoError(t, err)
	s := &suite{
		t: t, authority: authority, listeners: map[string]*bufconn.Listener{}, stops: map[string]func(){},
		answers: map[string]answerFunc{}, over: map[string]bool{}, metrics: prometheus.NewRegistry(),
	}
	for name, services := range map[string][]grpc.ServiceDesc{
		"policy": {policyv1.PolicyService_ServiceDesc, auditv1.AuditTrailService_ServiceDesc},
		"auth": {
			authv1.AccountService_ServiceDesc, authv1.AgentService_ServiceDesc, authv1.SignInService_ServiceDesc,
			authv1.ProfileService_ServiceDesc, auditv1.AuditTrailService_ServiceDesc,
		},
		"session":  {sessionv1.SessionService_ServiceDesc, sessionv1.AgentSessionService_ServiceDesc},
		"notifier": {notifierv1.NoticeService_ServiceDesc, auditv1.AuditTrailService_ServiceDesc},
	} {
		s.serve(name, func(r grpc.ServiceRegistrar) {
			for _, desc := range services {
				r.RegisterService(s.recorder(name, desc), s)
			}
		})
	}
	s.listeners["gateway"] = bufconn.Listen(1 << 20)
	s.gateway, err = gateway.New(o.config, gateway.Deps{
		Policy: s.dial("policy"), Auth: s.dial("auth"), Session: s.dial("session"), Notifier: s.dial("notifier"), Self: s.dial("gateway"),
		Ready: o.ready, Pages: o.pages, Now: o.now, Log: slog.New(slog.NewTextHandler(s, nil)),
		Metrics: s.metrics, Tracing: o.tracing,
	})
	require.NoError(t, err)
	s.answerWith(sessionv1.SessionService_ValidateSession_FullMethodName, s.validate)
	s.serve("gateway", s.gateway.Register)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.url = "http://" + listener.Addr().String()
	s.run("rest", func(ctx context.Context) error { return s.gateway.Serve(ctx, listener) })
	return s
}

// run runs a task until the test ends, or its stop is called.
func (s *suite) run(name string, task func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- task(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		require.NoError(s.t, <-ended, name)
	})
	s.stops[name] = stop
	s.t.Cleanup(stop)
}

// serve serves a service to the holders of identities.
func (s *suite) serve(name string, register func(grpc.ServiceRegistrar)) {
	source, err := s.authority.Source(name)
	require.NoError(s.t, err)
	server, err := grpcx.NewServer(grpcx.ServerConfig{
		Name: name, Register: []func(grpc.ServiceRegistrar){register}, TLS: mtls.ServerConfig(source),
		VerifySession: verdict.By(sessionv1.NewSessionServiceClient(s.dial("session"))), OperatorToken: operatorToken, StopTimeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now,
	})
	require.NoError(s.t, err)
	if s.listeners[name] == nil {
		s.listeners[name] = bufconn.Listen(1 << 20)
	}
	listener := s.listeners[name]
	s.run(name, func(ctx context.Context) error { return server.Serve(ctx, listener) })
}

func (s *suite) dial(name string) *grpc.ClientConn {
	source, err := s.authority.Source("gateway")
	require.NoError(s.t, err)
	if s.listeners[name] == nil {
		s.listeners[name] = bufconn.Listen(1 << 20)
	}
	conn, err := grpcx.Dial("passthrough:///"+name, grpcx.DialOptions{
		TLS:    mtls.ClientConfig(source, name),
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return s.listeners[name].DialContext(ctx) },
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, conn.Close()) })
	return conn
}

// validate knows an agent, two admins of acme and one of another account.
func (s *suite) validate(_ context.Context, request proto.Message) (proto.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, _ := request.(*sessionv1.ValidateSessionRequest)
	session := &sessionv1.Session{
		Agent: "accounts/acme/agents/a1", Role: sessionv1.Session_ADMIN, AssuranceLevel: sessionv1.Session_AAL2,
	}
	switch token := asked.GetToken(); {
	case s.over[token]:
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionRevoked, "The session is over.")
	case token == "admin":
	case token == "weak-admin":
		session.AssuranceLevel = sessionv1.Session_AAL1
	case token == "agent":
		session.Role = sessionv1.Session_AGENT
	case token == "other-admin":
		session.Agent = "accounts/other/agents/a1"
	default:
		return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionUnknown, "The token is no session's.")
	}
	return &sessionv1.ValidateSessionResponse{Session: session, AgentVersion: 1}, nil
}

func (s *suite) endSession(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over[token] = true
}

// recorder is a service whose methods record their calls and answer as told. What
// several servers have is told by the name of the server and the method.
func (s *suite) recorder(server string, desc grpc.ServiceDesc) *grpc.ServiceDesc {
	desc.HandlerType = (*any)(nil)
	methods := make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		full := "/" + desc.ServiceName + "/" + m.MethodName
		methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: func(
			srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor,
		) (any, error) {
			request, answer := messagesOf(s.t, full)
			if err := decode(request); err != nil {
				return nil, err
			}
			return chain(ctx, request, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, func(ctx context.Context, _ any) (any, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				s.mu.Lock()
				if full != sessionv1.SessionService_ValidateSession_FullMethodName { // which comes with every call
					s.calls = append(s.calls, call{full, request, md, authz.FromContext(ctx)})
				}
				told := s.answers[full]
				if own := s.answers[server+full]; own != nil {
					told = own
				}
				s.mu.Unlock()
				if told != nil {
					return told(ctx, request)
				}
				return answer, nil
			})
		}}
	}
	desc.Methods = methods
	return &desc
}

// messagesOf returns a new request and response of an RPC.
func messagesOf(t *testing.T, full string) (request, response proto.Message) {
	method := methodOf(t, full)
	in, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	require.NoError(t, err)
	out, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	require.NoError(t, err)
	return in.New().Interface(), out.New().Interface()
}

func methodOf(t *testing.T, full string) protoreflect.MethodDescriptor {
	name := strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	require.NoError(t, err)
	method, ok := found.(protoreflect.MethodDescriptor)
	require.True(t, ok)
	return method
}

// answer tells a method what to answer.
func (s *suite) answer(method string, message proto.Message) {
	s.answerWith(method, func(context.Context, proto.Message) (proto.Message, error) { return proto.Clone(message), nil })
}

// fail tells a method what to refuse with.
func (s *suite) fail(method string, err error) {
	s.answerWith(method, func(context.Context, proto.Message) (proto.Message, error) { return nil, err })
}

func (s *suite) answerWith(method string, f answerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[method] = f
}

// taken returns the calls made so far, and forgets them.
func (s *suite) taken() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Write is the gateway's log.
func (s *suite) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *suite) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// reply is what a REST call got.
type reply struct {
	*http.Response
	body []byte
}

// do makes a REST call. headers are names and values in turn.
func (s *suite) do(method, path, body string, headers ...string) reply {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return s.send(method, path, reader, headers...)
}

func (s *suite) send(method, path string, body io.Reader, headers ...string) reply {
	s.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(s.request(method, path, body, headers...))
	require.NoError(s.t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return reply{response, content}
}

func (s *suite) request(method, path string, body io.Reader, headers ...string) *http.Request {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	require.NoError(s.t, err)
	for pair := range slices.Chunk(headers, 2) {
		request.Header.Add(pair[0], pair[1])
	}
	return request
}

// bearer is the header of somebody with a token.
func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// errorBody is a google.rpc.Status in JSON.
type errorBody struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Type            string `json:"@type"`
		Reason          string `json:"reason"`
		Domain          string `json:"domain"`
		RetryDelay      string `json:"retryDelay"`
		FieldViolations []struct{ Field, Description string }
	} `json:"details"`
}

// requireRefused requires an HTTP status and exactly one ErrorInfo with a reason.
func requireRefused(t *testing.T, r reply, httpStatus int, code codes.Code, reason string) errorBody {
	t.Helper()
	require.Equal(t, httpStatus, r.StatusCode, "%s", r.body)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	return requireErrorBody(t, r.body, code, reason)
}

func requireErrorBody(t *testing.T, body []byte, code codes.Code, reason string) errorBody {
	t.Helper()
	var e errorBody
	require.NoError(t, json.Unmarshal(body, &e), "%s", body)
	require.Equal(t, int(code), e.Code, "%s", body)
	require.NotEmpty(t, e.Message)
	infos := 0
	for _, d := range e.Details {
		if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" {
			infos++
			require.Equal(t, "twofold", d.Domain)
			require.Equal(t, reason, d.Reason, "%s", body)
		}
	}
	require.Equal(t, 1, infos, "%s", body)
	return e
}

// cookie returns a cookie that an answer sets.
func (r reply) cookie(name string) *http.Cookie {
	for _, c := range r.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}
