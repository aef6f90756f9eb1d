package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
)

// No secret that passes through the suite is in anything it writes but in the mail
// and the answer that it is meant for: not in the logs of its five processes at
// their most talkative, nor in events, databases, Redis, metrics or traces, in no
// spelling; whether all goes well, somebody does it wrong, or a store is away.
// OWASP ASVS 5.0, 16.2.5 and 14.2.
func TestCanaries_areNowhere(t *testing.T) {
	n := startNest(t)
	n.live()

	outputs := map[string][]byte{}
	controls := map[string]string{} // what has to be found, or nobody has looked
	for name, addr := range n.metrics {
		outputs["metrics of "+name], controls["metrics of "+name] = scrape(t, addr), "twofold_grpc_calls_total"
	}
	for _, name := range []string{"gateway", "notifier", "auth", "policy", "session"} {
		require.Zero(t, n.children[name].Stop(t, time.Minute), name)
		outputs["log of "+name], controls["log of "+name] = n.children[name].Output(t), `"trace_id"`
	}
	for what, dump := range map[string][]byte{
		"databases": dumpDatabase(t, n.database), "events": dumpStreams(t, n.nats.URL()), "Redis": dumpRedis(t, n.redis.Addr()),
	} {
		outputs[what], controls[what] = dump, canaryAccount
	}
	for _, body := range n.collector.Bodies() {
		outputs["traces"] = append(outputs["traces"], body...)
	}
	controls["traces"] = "twofold.auth.v1.SignInService/VerifySignIn"

	require.Greater(t, len(n.texts), 60)
	require.Greater(t, len(n.codes), 5)
	for what, output := range outputs {
		require.Contains(t, string(output), controls[what], "%s: %d bytes", what, len(output))
		require.Empty(t, n.find(output), "secrets in %s", what)
		t.Logf("%s: %d bytes without a secret", what, len(output))
	}
	n.traced(outputs)

	for what, output := range outputs { // the same search, with one planted in each
		planted := append(append([]byte{}, output...), []byte("msg="+n.texts["password of Olivia"])...)
		require.Equal(t, []string{"password of Olivia (raw)"}, n.find(planted), what)
	}
}

// live plays what people do with secrets.
func (n *nest) live() {
	t := n.t
	password := n.add("password of Olivia", `canary "password" of Olivia, & more`)
	n.refused(http.MethodPost, "/v1/accounts", n.add("wrong operator token", "wrong-operator-token"), fields{})
	n.ok(http.MethodPost, "/v1/accounts", operatorToken, fields{
		"accountId": canaryAccount, "displayName": "Canary",
		"owner": fields{"email": "olivia@canary.example", "displayName": "Olivia", "password": password},
	})
	signIn := func(email, password string) (int, map[string]any) {
		return n.rest(http.MethodPost, "/v1/signIn", "", fields{"account": canaryAccount, "email": email, "password": password, "client": "WEB"})
	}
	status, _ := signIn("olivia@canary.example", n.add("wrong password", "canary wrong password"))
	require.Equal(t, http.StatusUnauthorized, status)
	_, answer := signIn("olivia@canary.example", password)
	first := n.session("Olivia's first session", answer)
	secret, recovery, session := n.setUp("Olivia", "/v1/me/factors", first, fields{})

	// Invitations, imports, and a mail server that refuses at first.
	n.sink.Script("ivy@canary.example", mailsink.Refuse(mailsink.AtData, 451))
	n.ok(http.MethodPost, "/v1/accounts/"+canaryAccount+"/agents", session, fields{"email": "ivy@canary.example", "displayName": "Ivy", "role": "AGENT"})
	ivys := n.add("password of Ivy", "canary password of Ivy")
	invitation := n.linkToken("INVITATION", "ivy@canary.example")
	n.refused(http.MethodPost, "/v1/signIn:acceptInvitation", "", fields{"token": invitation, "password": ivys[:6]})
	n.ok(http.MethodPost, "/v1/signIn:acceptInvitation", "", fields{"token": invitation, "password": ivys})
	n.refused(http.MethodPost, "/v1/signIn:acceptInvitation", "", fields{"token": invitation, "password": ivys})
	imported := n.add("password of Imre", "canary password of Imre")
	n.ok(http.MethodPost, "/v1/accounts/"+canaryAccount+"/agents:import", session, fields{"agents": []fields{
		{"email": "imre@canary.example", "displayName": "Imre", "password": imported},
		{"email": imported, "displayName": "Wrong column", "password": "x"},
		{"email": "other@canary.example", "displayName": "Other", "passwordHash": imported},
	}})

	// Enforcement, and a set-up during the sign-in.
	n.ok(http.MethodPatch, "/v1/accounts/"+canaryAccount+"/mfaPolicy", session, fields{"enforced": true, "gracePeriod": "3600s"})
	_, answer = signIn("ivy@canary.example", ivys)
	waiting := n.add("sign-in token of Ivy", text(t, answer, "enrollmentRequired", "signInToken"))
	ivysSecret, _, ivysSession := n.setUp("Ivy", "/v1/signIn", "", fields{"signInToken": waiting})

	// Second factors, right and wrong.
	_, answer = signIn("olivia@canary.example", password)
	challenge := n.add("sign-in token of Olivia", text(t, answer, "challenge", "signInToken"))
	n.refused(http.MethodPost, "/v1/signIn:verify", "", fields{"signInToken": challenge, "totpCode": n.addCode("old code", n.code(secret, -20))})
	n.refused(http.MethodPost, "/v1/signIn:verify", "", fields{"signInToken": challenge, "recoveryCode": recovery[1][:len(recovery[1])-1]})
	again := n.session("Olivia by recovery code", n.ok(http.MethodPost, "/v1/signIn:verify", "", fields{"signInToken": challenge, "recoveryCode": recovery[0]}))
	n.ok(http.MethodPost, "/v1/me:verifyFactor", ivysSession, fields{"totpCode": n.addCode("next code of Ivy", n.code(ivysSecret, 1))})

	// Passwords that are forgotten and changed.
	n.ok(http.MethodPost, "/v1/signIn:requestPasswordReset", "", fields{"account": canaryAccount, "email": "imre@canary.example"})
	reset := n.linkToken("PASSWORD_RESET", "imre@canary.example")
	n.ok(http.MethodPost, "/v1/signIn:resetPassword", "", fields{"token": reset, "password": n.add("next password of Imre", "canary next password of Imre")})
	n.refused(http.MethodPost, "/v1/me:changePassword", again, fields{"currentPassword": password + "x", "newPassword": ivys})
	n.ok(http.MethodGet, "/v1/me", again, nil)

	for _, what := range []string{"password of Olivia", "sign-in token of Olivia", "TOTP secret of Ivy", "token of Olivia by recovery code", "recovery code 2 of Ivy"} {
		n.mistakes(n.texts[what])
		n.mistakesOverGRPC(n.texts[what])
	}
	n.redis.Pause(t)
	n.refused(http.MethodGet, "/v1/me", again, nil)
	n.redis.Resume(t)
	require.Eventually(t, func() bool {
		status, _ := n.rest(http.MethodGet, "/v1/me", again, nil)
		return status == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond)
}

// mistakesOverGRPC are those that REST has no room for: text that is none, methods
// and metadata that somebody made up.
func (n *nest) mistakesOverGRPC(secret string) {
	t := n.t
	plain := strings.Map(printableASCII, secret)
	auth := n.connect("auth")
	for method, ctx := range map[string]context.Context{
		"/twofold.auth.v1.SignInService/" + plain:  t.Context(),
		"/" + plain + "/SignIn":                    t.Context(),
		authv1.ProfileService_GetMe_FullMethodName: bearer(t.Context(), plain+"x"),
		authv1.AgentService_ListAgents_FullMethodName: metadata.AppendToOutgoingContext(t.Context(), "authorization", plain,
			"twofold-request-id", plain+"\"", "twofold-client-address", plain, "traceparent", plain, "tracestate", "a="+plain),
	} {
		err := auth.Invoke(ctx, method, &authv1.GetMeRequest{}, &authv1.GetMeResponse{})
		require.NotEqual(t, codes.OK, status.Code(err), method)
	}
	_, err := authv1.NewSignInServiceClient(auth).SignIn(t.Context(), &authv1.SignInRequest{Account: secret, Email: secret, Password: secret})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// traced checks that one trace leads from a request at the edge to the consumers of
// the event it caused, and that the logs name it.
func (n *nest) traced(outputs map[string][]byte) {
	t := n.t
	traces := map[string]map[string]bool{} // spans by trace
	for _, span := range n.collector.Spans() {
		require.Empty(t, span.Texts)
		if traces[span.TraceID] == nil {
			traces[span.TraceID] = map[string]bool{}
		}
		traces[span.TraceID][span.Service+": "+span.Name] = true
	}
	for trace, spans := range traces {
		if !spans["twofold-gateway: PATCH /v1/{mfa_policy.name=accounts/*/mfaPolicy}"] {
			continue
		}
		for _, span := range []string{
			"twofold-gateway: twofold.policy.v1.PolicyService/UpdateMfaPolicy", "twofold-policy: twofold.policy.v1.PolicyService/UpdateMfaPolicy",
			"twofold-session: twofold.session.v1.SessionService/ApplyEnforcement",
			"twofold-session: process EnforcementEnabled", "twofold-notifier: process EnforcementEnabled",
		} {
			require.True(t, spans[span], "%s is not among %v", span, spans)
		}
		for _, name := range []string{"gateway", "policy", "session"} {
			require.Contains(t, string(outputs["log of "+name]), trace, name)
		}
		return
	}
	require.Fail(t, "no trace of the change of the policy", "%d traces", len(traces))
}
