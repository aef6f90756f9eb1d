package grpcx_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/grpcx"
)

// outcome is what a kind of caller gets from a method.
type outcome struct {
	code   codes.Code
	reason string
}

var (
	admitted  = outcome{codes.OK, ""}
	missing   = outcome{codes.Unauthenticated, errs.ReasonCredentialsMissing}
	denied    = outcome{codes.PermissionDenied, errs.ReasonCallerNotPermitted}
	unknown   = outcome{codes.Unauthenticated, errs.ReasonSessionUnknown}
	over      = outcome{codes.Unauthenticated, errs.ReasonSessionEndedByMFAPolicy}
	malformed = outcome{codes.Unauthenticated, errs.ReasonCredentialsMalformed}
)

// The whole of who may call: each kind of method against each kind of caller,
// over real mutual TLS. A cell that changes is a door that opened or closed.
func TestAccess_everyMethodByEveryCaller(t *testing.T) {
	h := newHarness(t, nil)
	methods := []string{
		"Anyone", "SignInToken", "Session", "Admin", "Operator", "AdminOrOperator", "Service", "OperatorOrAuth", "AdminOrGateway",
	}
	require.Len(t, probeMethods, len(methods))
	for _, caller := range []struct {
		name, identity, authorization string
		want                          []outcome // in the order of methods
	}{
		{"nobody", "", "", []outcome{admitted, admitted, missing, missing, missing, missing, missing, missing, missing}},
		{"agent", "", "Bearer agent-token", []outcome{admitted, admitted, admitted, denied, denied, denied, missing, denied, denied}},
		{"admin", "", "Bearer admin-token", []outcome{admitted, admitted, admitted, admitted, denied, admitted, missing, denied, admitted}},
		{"owner, scheme in lower case", "", "bearer owner-token", []outcome{admitted, admitted, admitted, admitted, denied, admitted, missing, denied, admitted}},
		{"agent through the gateway", "gateway", "Bearer agent-token", []outcome{admitted, admitted, admitted, denied, denied, denied, denied, denied, denied}},
		{"admin through the gateway", "gateway", "Bearer admin-token", []outcome{admitted, admitted, admitted, admitted, denied, admitted, denied, denied, admitted}},
		{"nobody through the gateway", "gateway", "", []outcome{admitted, admitted, missing, missing, missing, missing, denied, missing, admitted}},
		{"operator by token", "", "Bearer " + operatorToken, []outcome{admitted, admitted, denied, denied, admitted, admitted, missing, admitted, denied}},
		{"operator by certificate", "operator", "", []outcome{admitted, admitted, denied, denied, admitted, admitted, denied, admitted, denied}},
		{"a service on the list", "auth", "", []outcome{admitted, admitted, denied, denied, denied, denied, admitted, admitted, denied}},
		{"a service not on the list", "notifier", "", []outcome{admitted, admitted, denied, denied, denied, denied, denied, denied, denied}},
		{"an unknown token", "", "Bearer forged", []outcome{admitted, admitted, unknown, unknown, unknown, unknown, missing, unknown, unknown}},
		{"a session that is over", "", "Bearer over-token", []outcome{admitted, admitted, over, over, over, over, missing, over, over}},
		{"no bearer scheme", "", "Basic YTpi", []outcome{admitted, admitted, malformed, malformed, malformed, malformed, missing, malformed, malformed}},
		// A token decides before the certificate, so a bad one is not rescued by it.
		{"a service with a forged token", "auth", "Bearer forged", []outcome{admitted, admitted, unknown, unknown, unknown, unknown, admitted, unknown, unknown}},
		{"the operator's token without its end", "", "Bearer " + operatorToken[:10], []outcome{admitted, admitted, unknown, unknown, unknown, unknown, missing, unknown, unknown}},
	} {
		t.Run(caller.name, func(t *testing.T) {
			conn := h.conn(caller.identity)
			for i, method := range methods {
				var pairs []string
				if caller.authorization != "" {
					pairs = []string{"authorization", caller.authorization}
				}
				reached := false
				h.probe.handle = func(context.Context, *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
					reached = true
					return &sessionv1.ValidateSessionResponse{}, nil
				}
				err := h.call(conn, method, pairs...)
				requireStatus(t, err, caller.want[i].code, caller.want[i].reason)
				require.Equal(t, caller.want[i] == admitted, reached, "%s reached its handler", method)
			}
		})
	}
}

// Methods that look at no bearer must not even ask about it: a sign-in with an
// old token in the header works, and internal calls cost no verdict.
func TestAccess_bearersAreIgnoredWhereNoneIsAsked(t *testing.T) {
	h := newHarness(t, nil)
	require.NoError(t, h.call(h.conn(""), "Anyone", "authorization", "Bearer over-token"))
	require.NoError(t, h.call(h.conn("auth"), "Service", "authorization", "Bearer over-token"))
	require.Empty(t, h.verified)
}

func TestAccess_credentialsThatAreNotOneToken(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("")
	for _, values := range [][]string{
		{"Bearer agent-token", "Bearer agent-token"}, {"Bearer agent-token", "Bearer admin-token"},
		{"Bearer"}, {"Bearer "}, {""}, {"Bearer  agent-token"}, {"Bearer agent-token, Bearer admin-token"}, {"agent-token"},
	} {
		var pairs []string
		for _, v := range values {
			pairs = append(pairs, "authorization", v)
		}
		requireStatus(t, h.call(conn, "Session", pairs...), codes.Unauthenticated, errs.ReasonCredentialsMalformed)
	}
	require.Empty(t, h.verified)
}

// A verdict that cannot be had lets nobody in, and is not the caller's fault.
func TestAccess_verdictUnavailable(t *testing.T) {
	h := newHarness(t, nil)
	st := requireStatus(t, h.call(h.conn(""), "Session", "authorization", "Bearer store-down-token"),
		codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.NotContains(t, st.Message(), "10.1.2.3")
	require.Contains(t, h.log.String(), "10.1.2.3")
	// That we may not ask is our mistake, not the caller's.
	requireStatus(t, h.call(h.conn(""), "Session", "authorization", "Bearer not-asked-right-token"), codes.Internal, errs.ReasonInternal)
}

// What the handler learns about its caller.
func TestCaller(t *testing.T) {
	h := newHarness(t, nil)
	var got *authz.Caller
	h.probe.handle = func(ctx context.Context, _ *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
		got = authz.FromContext(ctx)
		return &sessionv1.ValidateSessionResponse{}, nil
	}
	gateway, stranger := h.conn("gateway"), h.conn("")

	require.NoError(t, h.call(gateway, "Session", "authorization", "Bearer agent-token",
		"twofold-client-address", "::ffff:203.0.113.9", "twofold-request-id", "req-1"))
	require.Equal(t, authz.KindPerson, got.Kind)
	require.Equal(t, "gateway", got.Via)
	require.Equal(t, "accounts/acme/agents/a1", got.Person.AgentName())
	require.Equal(t, "203.0.113.9", got.ClientAddress.String())
	require.Equal(t, "req-1", got.RequestID)
	require.NoError(t, got.InAccount("acme"))
	requireStatus(t, got.InAccount("globex"), codes.NotFound, errs.ReasonResourceNotFound)

	// Only the gateway's word about addresses counts.
	for _, conn := range []*grpc.ClientConn{stranger, h.conn("auth"), h.conn("operator")} {
		require.NoError(t, h.call(conn, "Anyone", "twofold-client-address", "203.0.113.9"))
		require.False(t, got.ClientAddress.IsValid())
	}
	for _, address := range []string{"a", "203.0.113.9, 198.51.100.1", ""} {
		require.NoError(t, h.call(gateway, "Anyone", "twofold-client-address", address))
		require.False(t, got.ClientAddress.IsValid())
	}
	// An id that could forge a log line is replaced.
	require.NoError(t, h.call(stranger, "Anyone", "twofold-request-id", "x level=ERROR"))
	require.Len(t, got.RequestID, 36)
}

func TestAccess_tokensAreNotLogged(t *testing.T) {
	h := newHarness(t, nil)
	conn := h.conn("gateway")
	require.NoError(t, h.call(conn, "Session", "authorization", "Bearer agent-token"))
	require.Error(t, h.call(conn, "Operator", "authorization", "Bearer agent-token"))
	require.Contains(t, h.log.String(), "Call refused")
	require.NotContains(t, h.log.String(), "agent-token")
}

func TestNewServer_refusesToStart(t *testing.T) {
	require.NoError(t, registerProbeFile())
	service := func(name string, methods ...string) func(grpc.ServiceRegistrar) {
		desc := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil)}
		for _, m := range methods {
			desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: m})
		}
		return func(r grpc.ServiceRegistrar) { r.RegisterService(desc, struct{}{}) }
	}
	for _, test := range []struct {
		name   string
		change func(*grpcx.ServerConfig)
		want   []string
	}{
		{"methods without an option", func(c *grpcx.ServerConfig) {
			c.Register = append(c.Register, service(nakedService, "Forgotten", "AlsoForgotten", "Declared"))
		}, []string{"/" + nakedService + "/Forgotten does not say", "/" + nakedService + "/AlsoForgotten does not say"}},
		{"an unspecified caller", func(c *grpcx.ServerConfig) {
			c.Register = append(c.Register, service(confusedService, "Unspecified"))
		}, []string{"/" + confusedService + "/Unspecified admits"}},
		{"a method its proto does not have", func(c *grpcx.ServerConfig) {
			c.Register = append(c.Register, service(nakedService, "Invented"))
		}, []string{"/" + nakedService + "/Invented does not say"}},
		{"people and nobody to verify them", func(c *grpcx.ServerConfig) { c.VerifySession = nil }, []string{"verify their sessions"}},
		{"neither TLS nor plaintext", func(c *grpcx.ServerConfig) { c.Plaintext = false }, []string{"either TLS or Plaintext"}},
		{"a service twice", func(c *grpcx.ServerConfig) { c.Register = append(c.Register, c.Register[0]) }, []string{"registered twice"}},
		{"no log", func(c *grpcx.ServerConfig) { c.Log = nil }, []string{"needs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := grpcx.ServerConfig{
				Name: "probe", Plaintext: true, Register: []func(grpc.ServiceRegistrar){(&probe{}).register(t)},
				VerifySession: func(context.Context, string) (*authz.Person, error) { return nil, errDriver },
				Log:           slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now,
			}
			test.change(&config)
			_, err := grpcx.NewServer(config)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			if err != nil {
				require.NotContains(t, err.Error(), "Declared does not")
			}
		})
	}
}

func TestHealth_isForAnyoneAndPerService(t *testing.T) {
	h := newHarness(t, nil)
	client := grpc_health_v1.NewHealthClient(h.conn(""))
	for _, service := range []string{"", probeService} {
		got, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, got.GetStatus())
	}
	// Nobody's typo is a fault of ours, which would be logged as one and wake people.
	_, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: probeService + "s"})
	requireStatus(t, err, codes.NotFound, errs.ReasonResourceNotFound)
}

func TestReflection(t *testing.T) {
	list := func(conn *grpc.ClientConn, pairs ...string) error {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(metadata.AppendToOutgoingContext(t.Context(), pairs...))
		require.NoError(t, err)
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		}); err != nil {
			require.ErrorIs(t, err, io.EOF, "refused before it was sent; Recv tells why")
		}
		_, err = stream.Recv()
		return err
	}
	h := newHarness(t, nil)
	requireStatus(t, list(h.conn("")), codes.Unauthenticated, errs.ReasonCredentialsMissing)
	requireStatus(t, list(h.conn(""), "authorization", "Bearer owner-token"), codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	require.NoError(t, list(h.conn(""), "authorization", "Bearer "+operatorToken))
	require.NoError(t, list(h.conn("notifier")))

	open := newHarness(t, func(c *grpcx.ServerConfig) { c.Reflection = authz.ReflectionForAnyone })
	require.NoError(t, list(open.conn("")))
}
