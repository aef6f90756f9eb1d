package gateway_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/twofold-auth/twofold/gen/openapi"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

const agentID = "0190f6a0-0000-7000-8000-000000000001"

// restCase is a REST call and what it must become.
type restCase struct {
	call    string // method and path
	body    string
	as      string // token
	rpc     string
	request proto.Message
	answer  proto.Message
	want    string // JSON
}

func restCases() []restCase {
	agent := &authv1.Agent{Name: "accounts/acme/agents/" + agentID, Email: "mia@example.com", Role: authv1.Agent_AGENT, MfaState: authv1.Agent_NOT_SET_UP}
	agentJSON := `{"name":"accounts/acme/agents/` + agentID + `","email":"mia@example.com","displayName":"","role":"AGENT",
		"state":"STATE_UNSPECIFIED","mfaState":"NOT_SET_UP","mfaStatusMessage":"","version":"0","etag":""}`
	account := &authv1.Account{Name: "accounts/acme", DisplayName: "Acme"}
	accountJSON := `{"name":"accounts/acme","displayName":"Acme","owner":""}`
	enrollment := &authv1.Enrollment{EnrollmentId: "e1", Secret: "ABC", QrPng: []byte{1, 2}}
	enrollmentJSON := `{"enrollmentId":"e1","secret":"ABC","otpauthUri":"","qrPng":"AQI="}`
	policy := &policyv1.MfaPolicy{Name: "accounts/acme/mfaPolicy", Revision: 2}
	policyJSON := `{"name":"accounts/acme/mfaPolicy","enforced":false,"applyToSso":false,"revision":"2","etag":""}`
	agentPath := "accounts/acme/agents/" + agentID
	return []restCase{
		{
			call: "POST /v1/accounts", as: operatorToken, rpc: authv1.AccountService_CreateAccount_FullMethodName,
			body: `{"accountId":"acme","displayName":"Acme","owner":{"email":"o@example.com","displayName":"Ola","password":"pässword"},"requestId":"r1"}`,
			request: &authv1.CreateAccountRequest{AccountId: "acme", DisplayName: "Acme", RequestId: "r1", Owner: &authv1.CreateAccountRequest_Owner{
				Email: "o@example.com", DisplayName: "Ola", Password: "pässword",
			}},
			answer: &authv1.CreateAccountResponse{Account: account}, want: accountJSON,
		},
		{
			call: "GET /v1/accounts/acme", as: "agent", rpc: authv1.AccountService_GetAccount_FullMethodName,
			request: &authv1.GetAccountRequest{Name: "accounts/acme"}, answer: &authv1.GetAccountResponse{Account: account}, want: accountJSON,
		},
		{
			call: "POST /v1/accounts/acme/agents", as: "admin", rpc: authv1.AgentService_CreateAgent_FullMethodName,
			body:    `{"email":"mia@example.com","displayName":"Mia","role":"ADMIN"}`,
			request: &authv1.CreateAgentRequest{Parent: "accounts/acme", Email: "mia@example.com", DisplayName: "Mia", Role: authv1.Agent_ADMIN},
			answer:  &authv1.CreateAgentResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/accounts/acme/agents:import", as: "admin", rpc: authv1.AgentService_ImportAgents_FullMethodName,
			body: `{"agents":[{"email":"a@example.com","displayName":"A","passwordHash":"$2a$x"},{"email":"b@example.com"}],"sendInvitations":true}`,
			request: &authv1.ImportAgentsRequest{Parent: "accounts/acme", SendInvitations: true, Agents: []*authv1.ImportAgentsRequest_Row{
				{Email: "a@example.com", DisplayName: "A", PasswordHash: "$2a$x"}, {Email: "b@example.com"},
			}},
			answer: &authv1.ImportAgentsResponse{Results: []*authv1.ImportAgentsResponse_Result{
				{Outcome: &authv1.ImportAgentsResponse_Result_Error{Error: &authv1.ImportAgentsResponse_RowError{Reason: "EMAIL_TAKEN"}}},
			}},
			want: `{"results":[{"error":{"reason":"EMAIL_TAKEN","message":""}}]}`,
		},
		{
			call: "GET /v1/" + agentPath, as: "admin", rpc: authv1.AgentService_GetAgent_FullMethodName,
			request: &authv1.GetAgentRequest{Name: agentPath}, answer: &authv1.GetAgentResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "GET /v1/accounts/acme/agents?filter=mfaState%3DNOT_SET_UP&query=mi%20a&orderBy=email+desc&pageSize=7&pageToken=t", as: "admin",
			rpc: authv1.AgentService_ListAgents_FullMethodName,
			request: &authv1.ListAgentsRequest{
				Parent: "accounts/acme", Filter: "mfaState=NOT_SET_UP", Query: "mi a", OrderBy: "email desc", PageSize: 7, PageToken: "t",
			},
			answer: &authv1.ListAgentsResponse{Agents: []*authv1.Agent{agent}, TotalSize: 1},
			want:   `{"agents":[` + agentJSON + `],"nextPageToken":"","totalSize":1}`,
		},
		{
			call: "POST /v1/" + agentPath + ":resetMfa", as: "admin", rpc: authv1.AgentService_ResetMfa_FullMethodName,
			body: `{"reason":"lost phone"}`, request: &authv1.ResetMfaRequest{Name: agentPath, Reason: "lost phone"},
			answer: &authv1.ResetMfaResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/signIn", rpc: authv1.SignInService_SignIn_FullMethodName,
			body:    `{"account":"acme","email":"mia@example.com","password":"secret 12","client":"WEB","keepMeLoggedIn":true}`,
			request: &authv1.SignInRequest{Account: "acme", Email: "mia@example.com", Password: "secret 12", Client: sessionv1.Client_WEB, KeepMeLoggedIn: true},
			answer: &authv1.SignInResponse{Outcome: &authv1.SignInResponse_Challenge_{Challenge: &authv1.SignInResponse_Challenge{
				SignInToken: "t1", Methods: []authv1.Factor_Type{authv1.Factor_TOTP},
			}}},
			want: `{"challenge":{"signInToken":"t1","methods":["TOTP"]}}`,
		},
		{
			call: "POST /v1/signIn:verify", body: `{"signInToken":"t1","totpCode":"012345"}`, rpc: authv1.SignInService_VerifySignIn_FullMethodName,
			request: &authv1.VerifySignInRequest{SignInToken: "t1", Answer: &authv1.VerifySignInRequest_TotpCode{TotpCode: "012345"}},
			answer:  &authv1.VerifySignInResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/signIn:beginEnrollment", body: `{"signInToken":"t1"}`, rpc: authv1.SignInService_BeginSignInEnrollment_FullMethodName,
			request: &authv1.BeginSignInEnrollmentRequest{SignInToken: "t1"},
			answer:  &authv1.BeginSignInEnrollmentResponse{Enrollment: enrollment}, want: enrollmentJSON,
		},
		{
			call: "POST /v1/signIn:confirmEnrollment", body: `{"signInToken":"t1","enrollmentId":"e1","code":"012345"}`,
			rpc:     authv1.SignInService_ConfirmSignInEnrollment_FullMethodName,
			request: &authv1.ConfirmSignInEnrollmentRequest{SignInToken: "t1", EnrollmentId: "e1", Code: "012345"},
			answer:  &authv1.ConfirmSignInEnrollmentResponse{RecoveryCodes: []string{"x"}}, want: `{"recoveryCodes":["x"]}`,
		},
		{
			call: "GET /v1/me", as: "agent", rpc: authv1.ProfileService_GetMe_FullMethodName, request: &authv1.GetMeRequest{},
			answer: &authv1.GetMeResponse{RecoveryCodesLeft: 3}, want: `{"factors":[],"recoveryCodesLeft":3}`,
		},
		{
			call: "POST /v1/me:verifyFactor", as: "agent", body: `{"recoveryCode":"abc"}`, rpc: authv1.ProfileService_VerifyFactor_FullMethodName,
			request: &authv1.VerifyFactorRequest{Answer: &authv1.VerifyFactorRequest_RecoveryCode{RecoveryCode: "abc"}},
			answer:  &authv1.VerifyFactorResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/me/factors:beginEnrollment", as: "agent", body: `{}`, rpc: authv1.ProfileService_BeginEnrollment_FullMethodName,
			request: &authv1.BeginEnrollmentRequest{}, answer: &authv1.BeginEnrollmentResponse{Enrollment: enrollment}, want: enrollmentJSON,
		},
		{
			call: "POST /v1/me/factors:confirmEnrollment", as: "agent", body: `{"enrollmentId":"e1","code":"012345"}`,
			rpc:     authv1.ProfileService_ConfirmEnrollment_FullMethodName,
			request: &authv1.ConfirmEnrollmentRequest{EnrollmentId: "e1", Code: "012345"},
			answer:  &authv1.ConfirmEnrollmentResponse{}, want: `{"recoveryCodes":[]}`,
		},
		{
			call: "DELETE /v1/me/factors/f1", as: "agent", rpc: authv1.ProfileService_DeleteFactor_FullMethodName,
			request: &authv1.DeleteFactorRequest{Factor: "f1"}, answer: &authv1.DeleteFactorResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/me/recoveryCodes:regenerate", as: "agent", rpc: authv1.ProfileService_RegenerateRecoveryCodes_FullMethodName,
			request: &authv1.RegenerateRecoveryCodesRequest{}, answer: &authv1.RegenerateRecoveryCodesResponse{RecoveryCodes: []string{"a", "b"}},
			want: `{"recoveryCodes":["a","b"]}`,
		},
		{
			call: "POST /v1/me:changePassword", as: "agent", body: `{"currentPassword":"old secret","newPassword":"new secret"}`,
			rpc:     authv1.ProfileService_ChangePassword_FullMethodName,
			request: &authv1.ChangePasswordRequest{CurrentPassword: "old secret", NewPassword: "new secret"},
			answer:  &authv1.ChangePasswordResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/signIn:requestPasswordReset", body: `{"account":"acme","email":"mia@example.com"}`,
			rpc:     authv1.SignInService_RequestPasswordReset_FullMethodName,
			request: &authv1.RequestPasswordResetRequest{Account: "acme", Email: "mia@example.com"},
			answer:  &authv1.RequestPasswordResetResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/signIn:acceptInvitation", body: `{"token":"t1","password":"new secret"}`,
			rpc:     authv1.SignInService_AcceptInvitation_FullMethodName,
			request: &authv1.AcceptInvitationRequest{Token: "t1", Password: "new secret"},
			answer:  &authv1.AcceptInvitationResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/signIn:resetPassword", body: `{"token":"t1","password":"new secret"}`,
			rpc:     authv1.SignInService_ResetPassword_FullMethodName,
			request: &authv1.ResetPasswordRequest{Token: "t1", Password: "new secret"},
			answer:  &authv1.ResetPasswordResponse{}, want: `{}`,
		},
		{
			call: "PATCH /v1/" + agentPath, as: "admin", body: `{"role":"ADMIN","displayName":"Mia","etag":"e"}`,
			rpc: authv1.AgentService_UpdateAgent_FullMethodName,
			request: mustUnmarshal(&authv1.UpdateAgentRequest{}, `{"agent":{"name":"`+agentPath+`","role":"ADMIN","displayName":"Mia","etag":"e"},
				"updateMask":"displayName,etag,role"}`),
			answer: &authv1.UpdateAgentResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/" + agentPath + ":deactivate", as: "admin", rpc: authv1.AgentService_DeactivateAgent_FullMethodName,
			request: &authv1.DeactivateAgentRequest{Name: agentPath}, answer: &authv1.DeactivateAgentResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/" + agentPath + ":reactivate", as: "admin", rpc: authv1.AgentService_ReactivateAgent_FullMethodName,
			request: &authv1.ReactivateAgentRequest{Name: agentPath}, answer: &authv1.ReactivateAgentResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/" + agentPath + ":resendInvitation", as: "admin", rpc: authv1.AgentService_ResendInvitation_FullMethodName,
			request: &authv1.ResendInvitationRequest{Name: agentPath}, answer: &authv1.ResendInvitationResponse{Agent: agent}, want: agentJSON,
		},
		{
			call: "POST /v1/signOut", as: "agent", rpc: sessionv1.AgentSessionService_SignOut_FullMethodName,
			request: &sessionv1.SignOutRequest{}, answer: &sessionv1.SignOutResponse{}, want: `{}`,
		},
		{
			call: "GET /v1/me/sessions?pageSize=2", as: "agent", rpc: sessionv1.AgentSessionService_ListMySessions_FullMethodName,
			request: &sessionv1.ListMySessionsRequest{PageSize: 2}, answer: &sessionv1.ListMySessionsResponse{NextPageToken: "n"},
			want: `{"sessions":[],"nextPageToken":"n"}`,
		},
		{
			call: "DELETE /v1/me/sessions/s1", as: "agent", rpc: sessionv1.AgentSessionService_RevokeMySession_FullMethodName,
			request: &sessionv1.RevokeMySessionRequest{Session: "s1"}, answer: &sessionv1.RevokeMySessionResponse{}, want: `{}`,
		},
		{
			call: "POST /v1/me/sessions:revokeOthers", as: "agent", rpc: sessionv1.AgentSessionService_RevokeMyOtherSessions_FullMethodName,
			request: &sessionv1.RevokeMyOtherSessionsRequest{}, answer: &sessionv1.RevokeMyOtherSessionsResponse{Revoked: 4}, want: `{"revoked":4}`,
		},
		{
			call: "GET /v1/" + agentPath + "/sessions?pageToken=t", as: "admin", rpc: sessionv1.AgentSessionService_ListAgentSessions_FullMethodName,
			request: &sessionv1.ListAgentSessionsRequest{Parent: agentPath, PageToken: "t"}, answer: &sessionv1.ListAgentSessionsResponse{},
			want: `{"sessions":[],"nextPageToken":""}`,
		},
		{
			call: "POST /v1/" + agentPath + "/sessions:revokeAll", as: "admin", rpc: sessionv1.AgentSessionService_RevokeAllAgentSessions_FullMethodName,
			request: &sessionv1.RevokeAllAgentSessionsRequest{Parent: agentPath}, answer: &sessionv1.RevokeAllAgentSessionsResponse{Revoked: 1},
			want: `{"revoked":1}`,
		},
		{
			call: "GET /v1/accounts/acme/mfaPolicy", as: "admin", rpc: policyv1.PolicyService_GetMfaPolicy_FullMethodName,
			request: &policyv1.GetMfaPolicyRequest{Name: "accounts/acme/mfaPolicy"}, answer: &policyv1.GetMfaPolicyResponse{MfaPolicy: policy}, want: policyJSON,
		},
		{
			call: "PATCH /v1/accounts/acme/mfaPolicy?requestId=r1", as: "admin", body: `{"enforced":true,"gracePeriod":"3600s","etag":"e"}`,
			rpc: policyv1.PolicyService_UpdateMfaPolicy_FullMethodName,
			request: mustUnmarshal(&policyv1.UpdateMfaPolicyRequest{}, `{"mfaPolicy":{"name":"accounts/acme/mfaPolicy","enforced":true,
				"gracePeriod":"3600s","etag":"e"},"updateMask":"enforced,etag,gracePeriod","requestId":"r1"}`),
			answer: &policyv1.UpdateMfaPolicyResponse{MfaPolicy: policy}, want: policyJSON,
		},
		{
			call: "GET /v1/accounts/acme/mfaPolicy/revisions?page_size=3", as: "admin", rpc: policyv1.PolicyService_ListMfaPolicyRevisions_FullMethodName,
			request: &policyv1.ListMfaPolicyRevisionsRequest{Parent: "accounts/acme/mfaPolicy", PageSize: 3},
			answer:  &policyv1.ListMfaPolicyRevisionsResponse{}, want: `{"revisions":[],"nextPageToken":""}`,
		},
		{
			call: "GET /v1/accounts/acme/notices?filter=state%3DFAILED", as: "admin", rpc: notifierv1.NoticeService_ListNotices_FullMethodName,
			request: &notifierv1.ListNoticesRequest{Parent: "accounts/acme", Filter: "state=FAILED"}, answer: &notifierv1.ListNoticesResponse{},
			want: `{"notices":[],"nextPageToken":"","totalSize":0}`,
		},
		{
			call: "POST /v1/accounts/acme/notices/n1:resend", as: "admin", rpc: notifierv1.NoticeService_ResendNotice_FullMethodName,
			request: &notifierv1.ResendNoticeRequest{Name: "accounts/acme/notices/n1"},
			answer:  &notifierv1.ResendNoticeResponse{Notice: &notifierv1.Notice{Name: "accounts/acme/notices/n1", State: notifierv1.Notice_QUEUED}},
			want: `{"name":"accounts/acme/notices/n1","kind":"KIND_UNSPECIFIED","state":"QUEUED","agent":"","email":"","displayName":"",
				"eventId":"","failedAttempts":0,"lastError":""}`,
		},
	}
}

func mustUnmarshal[M proto.Message](m M, text string) M {
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		panic(err)
	}
	return m
}

func TestRoutes_eachReachesItsRPC(t *testing.T) {
	s := newSuite(t)
	for _, c := range restCases() {
		t.Run(c.call, func(t *testing.T) {
			s.answer(c.rpc, c.answer)
			s.taken()
			method, path, _ := strings.Cut(c.call, " ")
			var headers []string
			if c.as != "" {
				headers = bearer(c.as)
			}
			r := s.do(method, path, c.body, headers...)
			require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
			require.JSONEq(t, c.want, string(r.body))
			require.Equal(t, "no-store", r.Header.Get("Cache-Control"))
			require.NotEmpty(t, r.Header.Get("Twofold-Request-Id"))

			calls := s.taken()
			require.Len(t, calls, 1)
			require.Equal(t, c.rpc, calls[0].method)
			require.True(t, proto.Equal(c.request, calls[0].request), "want %v\ngot  %v", c.request, calls[0].request)
			require.Equal(t, "127.0.0.1", calls[0].caller.ClientAddress.String())
			require.Equal(t, r.Header.Get("Twofold-Request-Id"), calls[0].caller.RequestID)
		})
	}
}

// Routes that are in no case above lead somewhere too: to their service, or to a
// refusal by its rules for fields.
func TestRoutes_allAreServed(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.WatchLimit = time.Millisecond })
	for rpc, rule := range restRules(t) {
		for _, token := range []string{"admin", operatorToken} {
			r := s.do(rule.method, strings.ReplaceAll(rule.path, "accounts/x", "accounts/acme"), "", bearer(token)...)
			require.NotContains(t, []int{http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusInternalServerError}, r.StatusCode,
				"%s: %s", rpc, r.body)
			require.NotContains(t, string(r.body), "METHOD_UNKNOWN", rpc)
		}
	}
}

// Whatever stands in the URL, the services get no fields the URL has no room for;
// also on routes without any parameters, where grpc-gateway looks at none.
func TestRoutes_queryThatNobodyAskedFor_isRefused(t *testing.T) {
	s := newSuite(t)
	for _, c := range restCases() {
		method, path, _ := strings.Cut(c.call, " ")
		path, _, _ = strings.Cut(path, "?")
		r := s.do(method, path+"?verified=true", c.body, bearer(operatorToken)...)
		requireRefused(t, r, http.StatusBadRequest, 3, "UNKNOWN_FIELD")
	}
	require.Empty(t, s.taken())
}

// The gateway has a certificate that opens more than a stranger may see. It must
// never be what lets a caller in.
func TestRoutes_withoutCredentials_areClosed(t *testing.T) {
	s := newSuite(t)
	open := 0
	for rpc, rule := range restRules(t) {
		for _, headers := range [][]string{
			nil, {"Authorization", "Bearer \xfc"}, {"Authorization", ""}, {"Authorization", "Bearer "}, {"Cookie", "__Host-twofold=admin"},
			{"Twofold-Session", "cookie"}, {"Twofold-Session", "cookie", "Cookie", "__Host-twofold=", "Authorization", "Bearer admin"},
		} {
			r := s.do(rule.method, rule.path, "{}", headers...)
			if strings.HasPrefix(rpc, "/twofold.auth.v1.SignInService/") {
				open++
				continue
			}
			require.Equal(t, http.StatusUnauthorized, r.StatusCode, "%s %q: %s", rpc, headers, r.body)
		}
		for _, c := range s.taken() {
			require.Contains(t, c.method, "/twofold.auth.v1.SignInService/")
		}
	}
	require.Positive(t, open)
}

var templateVariable = regexp.MustCompile(`\{[^}=]+=([^}]*)\}|\{[^}=]+\}`)

var bracketed = regexp.MustCompile(`\{[^}]+\}`)

// Every route is in the description that frontends generate their clients from.
func TestOpenAPI_hasEveryRoute(t *testing.T) {
	var description struct {
		Info  struct{ Title, Version string }
		Paths map[string]map[string]any
	}
	require.NoError(t, json.Unmarshal(openapi.JSON, &description))
	require.Equal(t, "Twofold", description.Info.Title)
	require.Equal(t, "v1", description.Info.Version)

	var described, want []string
	for path, methods := range description.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+bracketed.ReplaceAllString(path, "x"))
		}
	}
	for _, rule := range restRules(t) {
		want = append(want, rule.method+" "+rule.path)
	}
	require.Greater(t, len(want), 25)
	require.Subset(t, described, want)

	s := newSuite(t)
	r := s.do(http.MethodGet, "/openapi.json", "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.Equal(t, string(openapi.JSON), string(r.body))
}

type restRule struct{ method, path string }

// restRules returns the routes of all protos, with x for each variable segment.
func restRules(t *testing.T) map[string]restRule {
	rules := map[string]restRule{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil || !strings.HasPrefix(string(file.Package()), "twofold.") {
					continue
				}
				r := restRule{}
				switch p := rule.GetPattern().(type) {
				case *annotations.HttpRule_Get:
					r = restRule{http.MethodGet, p.Get}
				case *annotations.HttpRule_Post:
					r = restRule{http.MethodPost, p.Post}
				case *annotations.HttpRule_Patch:
					r = restRule{http.MethodPatch, p.Patch}
				case *annotations.HttpRule_Delete:
					r = restRule{http.MethodDelete, p.Delete}
				default:
					require.Fail(t, "no such method", "%v", rule)
				}
				r.path = templateVariable.ReplaceAllStringFunc(r.path, func(v string) string {
					if m := templateVariable.FindStringSubmatch(v); m[1] != "" {
						v = m[1]
					} else {
						v = "*"
					}
					return strings.ReplaceAll(v, "*", "x")
				})
				rules["/"+string(service.FullName())+"/"+string(method.Name())] = r
			}
		}
		return true
	})
	return rules
}
