package gateway

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// Whatever a body is: what protojson reads is let through and nothing else, and
// what is refused has a reason.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"agents":[{"email":"a","role":"AGENT"},{"role":2}],"requestId":"r"}`, `{"agents":null}`, `{"agents":[null]}`,
		`{"agents":{}}`, `{"a":1}`, `{"":1}`, `{"agents":[{"email":1}]}`, `{"request_id":"a","requestId":"b"}`, "{\"parent\":\"\xff\"}", `{"parent":"\ud800"}`,
		` {"parent" : "x" } `, `{"parent":"x"}{}`, strings.Repeat(`[`, 100), `{"sendInvitations":"true"}`, `{"agents":[[]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		refusal := decode(body, &authv1.ImportAgentsRequest{})
		readable := protojson.Unmarshal(body, &authv1.ImportAgentsRequest{}) == nil
		require.Equal(t, readable, refusal == nil, "%v", refusal)
		if refusal != nil {
			require.Equal(t, codes.InvalidArgument, refusal.Code())
			require.Contains(t, []string{errs.ReasonMalformedJSON, errs.ReasonUnknownField}, refusal.Reason())
		}
	})
}

// A query changes a request only in fields that neither path nor body say.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"requestId=a", "request_id=a", "updateMask=enforced", "mfaPolicy.enforced=true", "mfaPolicy=x", "mfa_policy.name=x", "a=b", "=", "&&", ";", "%zz",
		"requestId=a&request_id=b", "requestId[x]=1", "updateMask.paths=enforced", "mfaPolicy.gracePeriod=1s", "..=", "requestId.=1",
	} {
		f.Add(seed)
	}
	routes, err := readRoutes()
	require.NoError(f, err)
	to := routes[routeKey{"PATCH", "/v1/{mfa_policy.name=accounts/*/mfaPolicy}"}]
	require.NotNil(f, to)
	path := map[string]string{"mfa_policy.name": "accounts/acme/mfaPolicy"}
	f.Fuzz(func(t *testing.T, query string) {
		if refusal := to.checkQuery(query, path); refusal != nil {
			require.Equal(t, codes.InvalidArgument, refusal.Code())
			require.Contains(t, []string{errs.ReasonInvalidField, errs.ReasonUnknownField}, refusal.Reason())
			return
		}
		for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
			key, _, _ := strings.Cut(pair, "=")
			require.NotContains(t, strings.ToLower(key), "policy")
		}
	})
}
