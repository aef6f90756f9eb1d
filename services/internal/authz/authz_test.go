package authz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// Every method the suite promises says who may call it, in a way that can be
// told apart.
func TestNewTable_acceptsTheWholeSuite(t *testing.T) {
	services := map[string]grpc.ServiceInfo{}
	count := 0
	for _, desc := range []*grpc.ServiceDesc{
		&authv1.AccountService_ServiceDesc, &authv1.AgentService_ServiceDesc, &authv1.ProfileService_ServiceDesc,
		&authv1.SignInService_ServiceDesc, &notifierv1.NoticeService_ServiceDesc, &policyv1.PolicyService_ServiceDesc,
		&rolloutv1.RolloutService_ServiceDesc, &sessionv1.AgentSessionService_ServiceDesc, &sessionv1.SessionService_ServiceDesc,
		&auditv1.AuditService_ServiceDesc, &auditv1.AuditTrailService_ServiceDesc,
	} {
		info := grpc.ServiceInfo{}
		for _, m := range desc.Methods {
			info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.MethodName})
		}
		for _, m := range desc.Streams {
			info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.StreamName})
		}
		count += len(info.Methods)
		services[desc.ServiceName] = info
	}
	table, err := NewTable(services, ReflectionForIdentities)
	require.NoError(t, err)
	require.Len(t, table.Methods(), count)
	require.Equal(t, []authzv1.Access_Caller{authzv1.Access_ANYONE}, table.Access("/twofold.auth.v1.SignInService/SignIn").GetCallers())
	require.Nil(t, table.Access("/twofold.auth.v1.SignInService/signIn"))

	_, err = NewAuthorizer(table, nil, "")
	require.ErrorContains(t, err, "verify their sessions")
}

func TestNewTable_standardServices(t *testing.T) {
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	table, err := NewTable(server.GetServiceInfo(), ReflectionForIdentities)
	require.NoError(t, err)
	require.Equal(t, authzv1.Access_ANYONE, table.Access("/grpc.health.v1.Health/Check").GetCallers()[0])
	require.Equal(t, authzv1.Access_OPERATOR, table.Access("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").GetCallers()[0])

	_, err = NewTable(map[string]grpc.ServiceInfo{"no.such.Service": {Methods: []grpc.MethodInfo{{Name: "M"}}}}, ReflectionForAnyone)
	require.ErrorContains(t, err, "/no.such.Service/M does not say")
}

func TestCheck(t *testing.T) {
	const (
		anyone, token, session, admin = authzv1.Access_ANYONE, authzv1.Access_SIGN_IN_TOKEN, authzv1.Access_SESSION, authzv1.Access_ADMIN
		operator, service             = authzv1.Access_OPERATOR, authzv1.Access_SERVICE
	)
	type callers = []authzv1.Access_Caller
	for _, test := range []struct {
		name     string
		callers  callers
		services []string
		want     string
	}{
		{"nobody", nil, nil, "does not say"},
		{"unspecified", callers{session, 0}, nil, "does not exist"},
		{"of the future", callers{77}, nil, "does not exist"},
		{"anyone", callers{anyone}, nil, ""},
		{"anyone or a token", callers{anyone, token}, nil, ""},
		{"anyone and a session", callers{anyone, session}, nil, "without credentials beside"},
		{"a token and a service", callers{token, service}, []string{"auth"}, "without credentials beside"},
		{"people", callers{session, admin, operator}, nil, ""},
		{"a service", callers{service}, []string{"auth"}, ""},
		{"services without names", callers{service}, nil, "without naming them"},
		{"names without services", callers{admin}, []string{"auth"}, "without admitting them"},
		{"a team of the platform", callers{service}, []string{"platform/billing"}, ""},
		{"a bad name", callers{service}, []string{"Auth"}, "no identity"},
		{"an empty name", callers{service}, []string{""}, "no identity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := check(&authzv1.Access{Callers: test.callers, Services: test.services})
			if test.want == "" {
				require.Empty(t, got)
			} else {
				require.Contains(t, got, test.want)
			}
		})
	}
	require.Contains(t, check(nil), "does not say")
}

// A caller nobody identified may do nothing, wherever the context comes from.
func TestFromContext_withoutACallIsNobody(t *testing.T) {
	c := FromContext(t.Context())
	require.Equal(t, KindAnonymous, c.Kind)
	require.Error(t, c.InAccount("acme"))
	require.Error(t, c.InAccount(""))
	require.False(t, c.admitted(&authzv1.Access{Callers: []authzv1.Access_Caller{
		authzv1.Access_SESSION, authzv1.Access_ADMIN, authzv1.Access_OPERATOR, authzv1.Access_SERVICE,
	}, Services: []string{"auth"}}))
}

// What the platform may do each of its teams may, and nobody who only looks like one.
func TestPermits(t *testing.T) {
	for _, test := range []struct {
		service, identity string
		want              bool
	}{
		{"auth", "auth", true},
		{"auth", "policy", false},
		{"auth", "auth/eu", false},
		{"platform", "platform", true},
		{"platform", "platform/billing", true},
		{"platform", "platform-billing", false},
		{"platform", "platform/", false},
		{"platform", "billing", false},
		{"platform/billing", "platform/billing", true},
		{"platform/billing", "platform", false},
		{"platform/billing", "platform/support", false},
		{AnyIdentity, "platform/billing", true},
	} {
		access := &authzv1.Access{Services: []string{test.service}}
		require.Equal(t, test.want, permits(access, test.identity), "%+v", test)
	}
}

func TestInAccount(t *testing.T) {
	person := &Caller{Kind: KindPerson, Person: &Person{Account: "acme"}}
	require.NoError(t, person.InAccount("acme"))
	for _, other := range []string{"globex", "", "ACME", "acme/", "accounts/acme"} {
		require.Error(t, person.InAccount(other), other)
	}
	require.Error(t, (&Caller{Kind: KindPerson, Person: &Person{}}).InAccount(""))
	require.NoError(t, (&Caller{Kind: KindOperator}).InAccount("globex"))
	require.NoError(t, (&Caller{Kind: KindService, Via: "auth"}).InAccount("globex"))
}

func TestNewPerson(t *testing.T) {
	verified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p, err := NewPerson(&sessionv1.ValidateSessionResponse{AgentVersion: 7, Session: &sessionv1.Session{
		Name: "accounts/acme/agents/a1/sessions/s1", Agent: "accounts/acme/agents/a1", Role: sessionv1.Session_OWNER,
		AssuranceLevel: sessionv1.Session_AAL2, FactorVerifyTime: timestamppb.New(verified),
	}})
	require.NoError(t, err)
	require.Equal(t, &Person{
		Account: "acme", Agent: "a1", AgentVersion: 7, SessionName: "accounts/acme/agents/a1/sessions/s1",
		Role: sessionv1.Session_OWNER, AssuranceLevel: sessionv1.Session_AAL2, FactorVerifyTime: verified,
	}, p)
	require.True(t, p.IsAdmin())
	require.Equal(t, "accounts/acme/agents/a1", p.AgentName())

	of := func(agent string) *sessionv1.ValidateSessionResponse {
		return &sessionv1.ValidateSessionResponse{Session: &sessionv1.Session{Agent: agent, Role: sessionv1.Session_AGENT}}
	}
	p, err = NewPerson(of("accounts/acme/agents/a1"))
	require.NoError(t, err)
	require.True(t, p.FactorVerifyTime.IsZero())
	require.False(t, p.IsAdmin())
	for _, name := range []string{"", "a1", "accounts//agents/a1", "accounts/acme/agents/", "accounts/acme/people/a1", "accounts/acme/agents/a1/x"} {
		_, err := NewPerson(of(name))
		require.Error(t, err, name)
	}
}

func TestCaller_MayEnforce(t *testing.T) {
	at := func(level sessionv1.Session_AssuranceLevel) *Caller {
		return &Caller{Kind: KindPerson, Person: &Person{AssuranceLevel: level}}
	}
	require.True(t, at(sessionv1.Session_AAL2).MayEnforce())
	require.True(t, (&Caller{Kind: KindOperator}).MayEnforce())
	require.True(t, (&Caller{Kind: KindService, Via: "platform"}).MayEnforce())
	for _, c := range []*Caller{at(sessionv1.Session_AAL1), at(sessionv1.Session_ASSURANCE_LEVEL_UNSPECIFIED), {Kind: KindPerson}, {}} {
		require.False(t, c.MayEnforce(), "%+v", c)
	}
}
