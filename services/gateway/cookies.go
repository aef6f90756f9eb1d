package gateway

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// The browser's door. The prefix __Host- makes browsers keep a cookie to this
// host and this scheme (RFC 6265bis, 4.1.3.2).
const (
	sessionCookie = "__Host-twofold"
	signInCookie  = "__Host-twofold-signin"

	// cookieHeader asks for cookies and, since no other site can make a browser
	// send it without asking first, also tells that a call comes from our pages.
	cookieHeader = "Twofold-Session"
)

// cookies carries tokens to and from browsers.
type cookies struct {
	now func() time.Time
}

// asksForCookies reports whether the caller is a browser that wants cookies.
// Cookies of a call without the header are ignored.
func asksForCookies(r *http.Request) bool { return r.Header.Get(cookieHeader) == "cookie" }

// unpack turns the session cookie into an Authorization header, and returns the
// sign-in token of its cookie.
func unpack(r *http.Request) (signInToken string) {
	r.Header.Del("Authorization")
	if c, err := r.Cookie(sessionCookie); err == nil && c.Value != "" {
		r.Header.Set("Authorization", "Bearer "+c.Value)
	}
	if c, err := r.Cookie(signInCookie); err == nil {
		return c.Value
	}
	return ""
}

// pack moves the tokens of an answer into cookies.
func (c cookies) pack(ctx context.Context, w http.ResponseWriter, answer proto.Message) error {
	if answer == nil || !edgeOf(ctx).cookies {
		return nil
	}
	// Behind grpc-gateway's wrapper for response_body is the message itself.
	switch m := answer.ProtoReflect().Interface().(type) {
	case *authv1.SignInResponse:
		switch outcome := m.GetOutcome().(type) {
		case *authv1.SignInResponse_Session:
			c.setSession(w, outcome.Session)
		case *authv1.SignInResponse_Challenge_:
			c.setSignIn(w, outcome.Challenge.GetSignInToken(), outcome.Challenge.GetExpireTime().AsTime())
			outcome.Challenge.SignInToken = ""
		case *authv1.SignInResponse_EnrollmentRequired_:
			c.setSignIn(w, outcome.EnrollmentRequired.GetSignInToken(), outcome.EnrollmentRequired.GetExpireTime().AsTime())
			outcome.EnrollmentRequired.SignInToken = ""
		}
	case *authv1.VerifySignInResponse:
		c.setSession(w, m.GetSession())
	case *authv1.ConfirmSignInEnrollmentResponse:
		c.setSession(w, m.GetSession())
	case *authv1.VerifyFactorResponse:
		c.setSession(w, m.GetSession())
	case *authv1.ConfirmEnrollmentResponse:
		c.setSession(w, m.GetSession())
	case *sessionv1.SignOutResponse:
		forget(w, sessionCookie)
	}
	return nil
}

// setSession hands the session over and ends the sign-in. Without "Keep me logged
// in" the cookie goes when the browser closes.
func (c cookies) setSession(w http.ResponseWriter, s *sessionv1.Session) {
	if s.GetToken() == "" {
		return
	}
	maxAge := 0
	if s.GetKeepMeLoggedIn() {
		maxAge = c.secondsUntil(s.GetExpireTime().AsTime())
	}
	setCookie(w, sessionCookie, s.GetToken(), maxAge)
	forget(w, signInCookie)
	s.Token = ""
}

func (c cookies) setSignIn(w http.ResponseWriter, token string, expires time.Time) {
	setCookie(w, signInCookie, token, c.secondsUntil(expires))
}

// secondsUntil is the Max-Age of what ends then. Zero and less would mean others
// than "soon".
func (c cookies) secondsUntil(end time.Time) int { return max(1, int(end.Sub(c.now()).Seconds())) }

func forget(w http.ResponseWriter, name string) { setCookie(w, name, "", -1) }

// setCookie sets a cookie for some seconds, for as long as the browser is open (0),
// or not at all (less than 0).
func setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, MaxAge: maxAge, Path: "/",
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}
