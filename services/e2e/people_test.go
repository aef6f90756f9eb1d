package e2e

import (
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

const (
	// password is everybody's.
	password = "a password of the crowd"
	// passwordHash is password's, made with a low cost elsewhere.
	passwordHash = "$2a$10$WnSwDglAkj4RgCUiK84Fa.R/ikOfRIKyOt7tkhG3i7fF4Swa33HNW"
)

// signIn returns the token of a session without a second factor.
func (v running) signIn(t *testing.T, account, email string, kind sessionv1.Client_Kind) string {
	t.Helper()
	response, err := authv1.NewSignInServiceClient(v.connect("auth")).SignIn(t.Context(), &authv1.SignInRequest{
		Account: account, Email: email, Password: password, Client: kind, KeepMeLoggedIn: true,
	})
	require.NoError(t, err)
	require.NotEmpty(t, response.GetSession().GetToken())
	return response.GetSession().GetToken()
}

// setUp sets a second factor up from the profile, and returns the token after it.
func (v running) setUp(t *testing.T, account, email string) (session string) {
	t.Helper()
	ctx := bearer(t.Context(), v.signIn(t, account, email, sessionv1.Client_WEB))
	profile := authv1.NewProfileServiceClient(v.connect("auth"))
	begun, err := profile.BeginEnrollment(ctx, &authv1.BeginEnrollmentRequest{})
	require.NoError(t, err)
	code, err := totp.GenerateCode(begun.GetEnrollment().GetSecret(), time.Now())
	require.NoError(t, err)
	done, err := profile.ConfirmEnrollment(ctx, &authv1.ConfirmEnrollmentRequest{
		EnrollmentId: begun.GetEnrollment().GetEnrollmentId(), Code: code,
	})
	require.NoError(t, err)
	return done.GetSession().GetToken()
}

// reasonOf returns the reason in an error of the suite, or "".
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "twofold" {
			return info.GetReason()
		}
	}
	return ""
}
