package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

const (
	sessionCookie = "__Host-twofold"
	signInCookie  = "__Host-twofold-signin"
)

var browser = []string{"Twofold-Session", "cookie", "Sec-Fetch-Site", "same-origin"}

const signInBody = `{"account":"acme","email":"a@b.c","password":"p","client":"WEB"}`

// The prefix __Host- asks for all of this (RFC 6265bis, 4.1.3.2); see ASVS 3.3.
func requireSafe(t *testing.T, c *http.Cookie) {
	t.Helper()
	require.NotNil(t, c)
	require.True(t, c.Secure)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.Equal(t, "/", c.Path)
	require.Empty(t, c.Domain)
}

func requireForgotten(t *testing.T, c *http.Cookie) {
	t.Helper()
	requireSafe(t, c)
	require.Negative(t, c.MaxAge)
	require.Empty(t, c.Value)
}

func someSession(keep bool) *sessionv1.Session {
	return &sessionv1.Session{
		Name: "accounts/acme/agents/a1/sessions/s1", Token: "secret-token", KeepMeLoggedIn: keep,
		ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}
}

// Each answer that carries a session hands it over in the cookie, and ends the
// sign-in it came from.
func TestCookies_everyAnswerWithASession(t *testing.T) {
	s := newSuite(t)
	for rpc, c := range map[string]struct {
		path, body string
		answer     func(*sessionv1.Session) proto.Message
	}{
		authv1.SignInService_SignIn_FullMethodName: {"/v1/signIn", signInBody, func(x *sessionv1.Session) proto.Message {
			return &authv1.SignInResponse{Outcome: &authv1.SignInResponse_Session{Session: x}}
		}},
		authv1.SignInService_VerifySignIn_FullMethodName: {"/v1/signIn:verify", `{"totpCode":"123456"}`, func(x *sessionv1.Session) proto.Message {
			return &authv1.VerifySignInResponse{Session: x}
		}},
		authv1.SignInService_ConfirmSignInEnrollment_FullMethodName: {"/v1/signIn:confirmEnrollment", `{"enrollmentId":"e","code":"123456"}`,
			func(x *sessionv1.Session) proto.Message { return &authv1.ConfirmSignInEnrollmentResponse{Session: x} }},
		authv1.ProfileService_VerifyFactor_FullMethodName: {"/v1/me:verifyFactor", `{"totpCode":"123456"}`, func(x *sessionv1.Session) proto.Message {
			return &authv1.VerifyFactorResponse{Session: x}
		}},
		authv1.ProfileService_ConfirmEnrollment_FullMethodName: {"/v1/me/factors:confirmEnrollment", `{"enrollmentId":"e","code":"123456"}`,
			func(x *sessionv1.Session) proto.Message { return &authv1.ConfirmEnrollmentResponse{Session: x} }},
	} {
		t.Run(c.path, func(t *testing.T) {
			for _, keep := range []bool{false, true} {
				s.answer(rpc, c.answer(someSession(keep)))
				r := s.do(http.MethodPost, c.path, c.body, append([]string{"Cookie", sessionCookie + "=agent"}, browser...)...)
				require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
				require.NotContains(t, string(r.body), "secret-token")
				require.Contains(t, strings.ReplaceAll(string(r.body), " ", ""), `"token":""`)
				cookie := r.cookie(sessionCookie)
				requireSafe(t, cookie)
				require.Equal(t, "secret-token", cookie.Value)
				if keep {
					require.InDelta(t, 3600, cookie.MaxAge, 30)
				} else {
					require.Zero(t, cookie.MaxAge, "gone with the browser")
				}
				requireForgotten(t, r.cookie(signInCookie))

				r = s.do(http.MethodPost, c.path, c.body, append(bearer("agent"), "Cookie", sessionCookie+"=x")...)
				require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
				require.Contains(t, string(r.body), "secret-token", "who asks for no cookie gets the token")
				require.Empty(t, r.Cookies())
			}
		})
	}
}

func TestCookies_signInToken(t *testing.T) {
	s := newSuite(t)
	expires := timestamppb.New(time.Now().Add(5 * time.Minute))
	for name, answer := range map[string]*authv1.SignInResponse{
		"challenge": {Outcome: &authv1.SignInResponse_Challenge_{Challenge: &authv1.SignInResponse_Challenge{
			SignInToken: "secret-token", ExpireTime: expires}}},
		"enrollmentRequired": {Outcome: &authv1.SignInResponse_EnrollmentRequired_{EnrollmentRequired: &authv1.SignInResponse_EnrollmentRequired{
			SignInToken: "secret-token", ExpireTime: expires}}},
	} {
		s.answer(authv1.SignInService_SignIn_FullMethodName, answer)
		r := s.do(http.MethodPost, "/v1/signIn", signInBody, browser...)
		require.Equal(t, http.StatusOK, r.StatusCode)
		require.Contains(t, string(r.body), name)
		require.NotContains(t, string(r.body), "secret-token")
		cookie := r.cookie(signInCookie)
		requireSafe(t, cookie)
		require.Equal(t, "secret-token", cookie.Value)
		require.InDelta(t, 300, cookie.MaxAge, 30)
		require.Nil(t, r.cookie(sessionCookie))

		require.Contains(t, string(s.do(http.MethodPost, "/v1/signIn", signInBody).body), "secret-token")
	}
	// The way back, which only the header opens.
	s.taken()
	const cookies = signInCookie + "=secret-token"
	s.do(http.MethodPost, "/v1/signIn:verify", `{"totpCode":"123456"}`, append([]string{"Cookie", cookies}, browser...)...)
	s.do(http.MethodPost, "/v1/signIn:verify", `{"totpCode":"123456"}`, "Cookie", cookies)
	calls := s.taken()
	require.Equal(t, []string{"secret-token"}, calls[0].md.Get("twofold-sign-in-token"))
	require.Empty(t, calls[1].md.Get("twofold-sign-in-token"))

	s.fail(authv1.SignInService_VerifySignIn_FullMethodName, errs.New(codes.Unauthenticated, errs.ReasonSignInExpired, "Over."))
	r := s.do(http.MethodPost, "/v1/signIn:verify", `{"totpCode":"123456"}`, append([]string{"Cookie", cookies}, browser...)...)
	requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "SIGN_IN_EXPIRED")
	require.Empty(t, r.Cookies())

	s.fail(authv1.SignInService_VerifySignIn_FullMethodName, errs.New(codes.Unauthenticated, errs.ReasonCodeIncorrect, "No."))
	r = s.do(http.MethodPost, "/v1/signIn:verify", `{"totpCode":"123456"}`, append([]string{"Cookie", cookies}, browser...)...)
	requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "CODE_INCORRECT")
	require.Empty(t, r.Cookies(), "another try is allowed")
}

func TestCookies_countOnlyWithTheHeader_andThenAlone(t *testing.T) {
	s := newSuite(t)
	cookie := []string{"Cookie", sessionCookie + "=admin"}
	r := s.do(http.MethodGet, policyPath, "", cookie...)
	requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MISSING")
	require.Empty(t, r.Cookies(), "somebody else's page must not sign anybody out either")
	for _, value := range []string{"", "Cookie", "yes", "cookie, cookie"} {
		r = s.do(http.MethodGet, policyPath, "", append(cookie, "Twofold-Session", value)...)
		requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MISSING")
	}
	r = s.do(http.MethodGet, policyPath, "", append(cookie, browser...)...)
	require.Equal(t, http.StatusOK, r.StatusCode)

	// The Authorization of a browser's call is not looked at.
	r = s.do(http.MethodGet, policyPath, "", append(bearer("admin"), browser...)...)
	requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "CREDENTIALS_MISSING")
	s.taken()
	r = s.do(http.MethodGet, "/v1/me", "", append(append(bearer(operatorToken), cookie...), browser...)...)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Equal(t, []string{"Bearer admin"}, s.taken()[0].md.Get("authorization"))
}

func TestCookies_goWithTheSession(t *testing.T) {
	s := newSuite(t)
	cookie := append([]string{"Cookie", sessionCookie + "=agent"}, browser...)
	r := s.do(http.MethodPost, "/v1/signOut", "", cookie...)
	require.Equal(t, http.StatusOK, r.StatusCode)
	requireForgotten(t, r.cookie(sessionCookie))
	require.Empty(t, s.do(http.MethodPost, "/v1/signOut", "", bearer("agent")...).Cookies())

	for _, reason := range []string{
		errs.ReasonSessionEndedByMFAPolicy, errs.ReasonSessionRevoked, errs.ReasonSessionExpired, errs.ReasonSessionStoreLost, errs.ReasonSessionUnknown,
	} {
		s.fail(authv1.ProfileService_GetMe_FullMethodName, errs.New(codes.Unauthenticated, reason, "Over."))
		r = s.do(http.MethodGet, "/v1/me", "", cookie...)
		requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, reason)
		require.Empty(t, r.Cookies(), "the browser may have a newer one by now")
	}

	s.endSession("agent")
	r = s.do(http.MethodGet, "/v1/accounts/acme/rollout:watch", "", cookie...)
	requireRefused(t, r, http.StatusUnauthorized, codes.Unauthenticated, "SESSION_REVOKED")
	require.Empty(t, r.Cookies())
	require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"))
}

// A method that begins to answer with a token must be known to those who pack it
// into cookies: this finds it.
func TestCookies_noOtherAnswerHoldsAToken(t *testing.T) {
	packed := map[string]bool{
		"twofold.auth.v1.SignInResponse": true, "twofold.auth.v1.VerifySignInResponse": true, "twofold.auth.v1.ConfirmSignInEnrollmentResponse": true,
		"twofold.auth.v1.VerifyFactorResponse": true, "twofold.auth.v1.ConfirmEnrollmentResponse": true,
		// Their sessions are without a token.
		"twofold.auth.v1.GetMeResponse": true, "twofold.session.v1.ListMySessionsResponse": true, "twofold.session.v1.ListAgentSessionsResponse": true,
	}
	for rpc := range restRules(t) {
		output := methodOf(t, rpc).Output()
		if !packed[string(output.FullName())] {
			require.Empty(t, tokensIn(output, map[protoreflect.FullName]bool{}), rpc)
		}
	}
}

// tokensIn returns the fields of a message, and of those in it, that are tokens.
func tokensIn(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) (tokens []string) {
	if seen[m.FullName()] {
		return nil
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		name := string(field.Name())
		if strings.HasSuffix(name, "token") && !strings.HasSuffix(name, "page_token") {
			tokens = append(tokens, string(field.FullName()))
		}
		if field.Message() != nil {
			tokens = append(tokens, tokensIn(field.Message(), seen)...)
		}
	}
	return tokens
}
