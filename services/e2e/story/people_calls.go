package story

import (
	"context"
	"net/http"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// What people call for themselves.

// client calls the suite.
type client struct{ door door }

// The kinds of client a person signs in with.
const (
	web     = "WEB"
	mobile  = "MOBILE"
	desktop = "DESKTOP"
)

func (c *client) signIn(ctx context.Context, account, email, password, kind string, keep bool) (NextStep, error) {
	return do[NextStep](ctx, c.door, "", operation{
		verb: http.MethodPost, path: "/v1/signIn",
		body: fields{"account": account, "email": email, "password": password, "client": kind, "keepMeLoggedIn": keep},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewSignInServiceClient(connect("auth")).SignIn(ctx, &authv1.SignInRequest{
				Account: account, Email: email, Password: password, KeepMeLoggedIn: keep,
				Client: sessionv1.Client_Kind(sessionv1.Client_Kind_value[kind]),
			})
		},
	})
}

func (c *client) verifyTOTP(ctx context.Context, signInToken, code string) (SignedIn, error) {
	return do[SignedIn](ctx, c.door, "", operation{
		verb: http.MethodPost, path: "/v1/signIn:verify", body: fields{"signInToken": signInToken, "totpCode": code},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewSignInServiceClient(connect("auth")).VerifySignIn(ctx, &authv1.VerifySignInRequest{
				SignInToken: signInToken, Answer: &authv1.VerifySignInRequest_TotpCode{TotpCode: code},
			})
		},
	})
}

func (c *client) verifyRecoveryCode(ctx context.Context, signInToken, code string) (SignedIn, error) {
	return do[SignedIn](ctx, c.door, "", operation{
		verb: http.MethodPost, path: "/v1/signIn:verify", body: fields{"signInToken": signInToken, "recoveryCode": code},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewSignInServiceClient(connect("auth")).VerifySignIn(ctx, &authv1.VerifySignInRequest{
				SignInToken: signInToken, Answer: &authv1.VerifySignInRequest_RecoveryCode{RecoveryCode: code},
			})
		},
	})
}

func (c *client) beginSignInEnrollment(ctx context.Context, signInToken string) (Enrollment, error) {
	return do[Enrollment](ctx, c.door, "", operation{
		verb: http.MethodPost, path: "/v1/signIn:beginEnrollment", body: fields{"signInToken": signInToken},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewSignInServiceClient(connect("auth")).BeginSignInEnrollment(ctx,
				&authv1.BeginSignInEnrollmentRequest{SignInToken: signInToken})
			return r.GetEnrollment(), err
		},
	})
}

func (c *client) confirmSignInEnrollment(ctx context.Context, signInToken, enrollmentID, code string) (Enrolled, error) {
	return do[Enrolled](ctx, c.door, "", operation{
		verb: http.MethodPost, path: "/v1/signIn:confirmEnrollment",
		body: fields{"signInToken": signInToken, "enrollmentId": enrollmentID, "code": code},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewSignInServiceClient(connect("auth")).ConfirmSignInEnrollment(ctx, &authv1.ConfirmSignInEnrollmentRequest{
				SignInToken: signInToken, EnrollmentId: enrollmentID, Code: code,
			})
		},
	})
}

func (c *client) getMe(ctx context.Context, token string) (Me, error) {
	return do[Me](ctx, c.door, token, operation{
		verb: http.MethodGet, path: "/v1/me",
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewProfileServiceClient(connect("auth")).GetMe(ctx, &authv1.GetMeRequest{})
		},
	})
}

func (c *client) beginEnrollment(ctx context.Context, token string) (Enrollment, error) {
	return do[Enrollment](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/me/factors:beginEnrollment", body: fields{},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			r, err := authv1.NewProfileServiceClient(connect("auth")).BeginEnrollment(ctx, &authv1.BeginEnrollmentRequest{})
			return r.GetEnrollment(), err
		},
	})
}

func (c *client) confirmEnrollment(ctx context.Context, token, enrollmentID, code string) (Enrolled, error) {
	return do[Enrolled](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/me/factors:confirmEnrollment", body: fields{"enrollmentId": enrollmentID, "code": code},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewProfileServiceClient(connect("auth")).ConfirmEnrollment(ctx, &authv1.ConfirmEnrollmentRequest{
				EnrollmentId: enrollmentID, Code: code,
			})
		},
	})
}

func (c *client) deleteFactor(ctx context.Context, token, factor string) error {
	_, err := do[struct{}](ctx, c.door, token, operation{
		verb: http.MethodDelete, path: "/v1/me/factors/" + factor,
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return authv1.NewProfileServiceClient(connect("auth")).DeleteFactor(ctx, &authv1.DeleteFactorRequest{Factor: factor})
		},
	})
	return err
}

func (c *client) signOut(ctx context.Context, token string) error {
	_, err := do[struct{}](ctx, c.door, token, operation{
		verb: http.MethodPost, path: "/v1/signOut", body: fields{},
		rpc: func(ctx context.Context, connect Connect) (proto.Message, error) {
			return sessionv1.NewAgentSessionServiceClient(connect("session")).SignOut(ctx, &sessionv1.SignOutRequest{})
		},
	})
	return err
}
