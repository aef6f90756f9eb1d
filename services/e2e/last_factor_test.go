package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
)

// Whoever has removed their second factor keeps the session, but can no longer
// require one of everybody: what admins require, they have themselves.
func TestLastFactor_removed_enablesNothing(t *testing.T) {
	v := startAllInOne(t)
	const account, email = "bare", "bea@bare.example"
	_, err := authv1.NewAccountServiceClient(v.connect("auth")).CreateAccount(bearer(t.Context(), operatorToken), &authv1.CreateAccountRequest{
		AccountId: account, DisplayName: "Bare", Owner: &authv1.CreateAccountRequest_Owner{Email: email, DisplayName: "Bea", Password: password},
	})
	require.NoError(t, err)
	ctx := bearer(t.Context(), v.setUp(t, account, email))
	profile := authv1.NewProfileServiceClient(v.connect("auth"))
	me := func() *authv1.GetMeResponse {
		answer, err := profile.GetMe(ctx, &authv1.GetMeRequest{})
		require.NoError(t, err)
		return answer
	}
	before := me()
	require.Equal(t, sessionv1.Session_AAL2, before.GetSession().GetAssuranceLevel())
	name := before.GetFactors()[0].GetName()
	_, err = profile.DeleteFactor(ctx, &authv1.DeleteFactorRequest{Factor: name[len(before.GetAgent().GetName()+"/factors/"):]})
	require.NoError(t, err)

	after := me()
	require.Equal(t, before.GetSession().GetName(), after.GetSession().GetName())
	require.Equal(t, sessionv1.Session_AAL1, after.GetSession().GetAssuranceLevel())
	_, err = policyv1.NewPolicyServiceClient(v.connect("policy")).UpdateMfaPolicy(ctx, &policyv1.UpdateMfaPolicyRequest{
		MfaPolicy: &policyv1.MfaPolicy{
			Name: "accounts/" + account + "/mfaPolicy", Enforced: true, GracePeriod: durationpb.New(time.Hour),
		},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enforced", "grace_period"}},
	})
	require.Equal(t, "ADMIN_NOT_ENROLLED", reasonOf(err))
}
