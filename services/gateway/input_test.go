package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
)

const policyPath = "/v1/accounts/acme/mfaPolicy"

func TestBody_thatIsNotTheMessage_isRefused(t *testing.T) {
	s := newSuite(t)
	verify := "POST /v1/signIn:verify"
	for name, c := range map[string]struct{ call, body, reason, field string }{
		"unknown field":            {verify, `{"signInToken":"hunter2","aal":2}`, "UNKNOWN_FIELD", ""},
		"unknown field deep down":  {"POST /v1/accounts", `{"owner":{"emial":"hunter2"}}`, "UNKNOWN_FIELD", ""},
		"unknown field of a row":   {"POST /v1/accounts/acme/agents:import", `{"agents":[{},{"role":"AGENT","hunter":"hunter2"}]}`, "UNKNOWN_FIELD", ""},
		"field twice":              {verify, `{"signInToken":"a","signInToken":"hunter2"}`, "MALFORMED_JSON", "signInToken"},
		"field by both names":      {verify, `{"signInToken":"a","sign_in_token":"hunter2"}`, "MALFORMED_JSON", "signInToken"},
		"two of one choice":        {verify, `{"totpCode":"123456","recoveryCode":"hunter2"}`, "MALFORMED_JSON", "recoveryCode"},
		"number for a code":        {verify, `{"totpCode":123456}`, "MALFORMED_JSON", "totpCode"},
		"object for a string":      {verify, `{"totpCode":{"hunter2":1}}`, "MALFORMED_JSON", "totpCode"},
		"string for a truth value": {"PATCH " + policyPath, `{"enforced":"true"}`, "MALFORMED_JSON", "enforced"},
		"unknown enum value":       {"POST /v1/signIn", `{"client":"unknown field hunter2"}`, "MALFORMED_JSON", "client"},
		"string for an object":     {"POST /v1/accounts", `{"owner":"hunter2"}`, "MALFORMED_JSON", "owner"},
		"object for a list":        {"POST /v1/accounts/acme/agents:import", `{"agents":{}}`, "MALFORMED_JSON", "agents"},
		"wrong type in a row":      {"POST /v1/accounts/acme/agents:import", `{"agents":[{},{"email":12}]}`, "MALFORMED_JSON", "agents[1].email"},
		"no duration":              {"PATCH " + policyPath, `{"gracePeriod":"a hunter2 week"}`, "MALFORMED_JSON", "gracePeriod"},
		"null in an update":        {"PATCH " + policyPath, `{"enforced":null}`, "MALFORMED_JSON", "enforced"},
		"another resource's name":  {"PATCH " + policyPath, `{"name":"accounts/hunter2/mfaPolicy","enforced":true}`, "INVALID_FIELD", "mfa_policy.name"},
		"another account's parent": {"POST /v1/accounts/acme/agents", `{"parent":"accounts/hunter2"}`, "INVALID_FIELD", "parent"},
		"no JSON":                  {verify, `hunter2`, "MALFORMED_JSON", ""},
		"half of it":               {verify, `{"totpCode":"hunter2`, "MALFORMED_JSON", ""},
		"garbage behind":           {verify, `{"totpCode":"1"}hunter2`, "MALFORMED_JSON", ""},
		"two values":               {verify, `{"totpCode":"1"} {"totpCode":"2"}`, "MALFORMED_JSON", ""},
		"a list":                   {verify, `[{"totpCode":"1"}]`, "MALFORMED_JSON", ""},
		"null":                     {verify, `null`, "MALFORMED_JSON", ""},
		"not UTF-8":                {verify, "{\"totpCode\":\"hunter2\xff\"}", "MALFORMED_JSON", ""},
		"half a surrogate":         {verify, `{"totpCode":"hunter2\ud800"}`, "MALFORMED_JSON", "totpCode"},
		"a form":                   {verify, `totpCode=hunter2`, "MALFORMED_JSON", ""},
		"deeper than anybody goes": {verify, strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), "MALFORMED_JSON", ""},
		"a body on GET":            {"GET /v1/me", `{"account":"hunter2"}`, "UNKNOWN_FIELD", ""},
		"a body on DELETE":         {"DELETE /v1/me/factors/f1", `{"force":true}`, "UNKNOWN_FIELD", ""},
		"a name that is no name":   {verify, `{"my password is hunter2":1}`, "UNKNOWN_FIELD", ""},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			r := s.do(method, path, c.body, bearer("admin")...)
			e := requireRefused(t, r, http.StatusBadRequest, codes.InvalidArgument, c.reason)
			require.NotContains(t, string(r.body), "hunter2")
			var fields []string
			for _, d := range e.Details {
				for _, v := range d.FieldViolations {
					fields = append(fields, v.Field)
				}
			}
			if c.field == "" {
				require.Empty(t, fields)
			} else {
				require.Equal(t, []string{c.field}, fields)
			}
		})
	}
	require.Empty(t, s.taken(), "none of it may reach a service")
	require.NotContains(t, s.logged(), "hunter2")
}

// The name of a field is no secret, and its place saves a developer an hour.
func TestBody_unknownField_isNamedWithItsPlace(t *testing.T) {
	s := newSuite(t)
	r := s.do(http.MethodPost, "/v1/accounts/acme/agents:import", `{"agents":[{},{"emial":"a@example.com"}]}`, bearer("admin")...)
	e := requireRefused(t, r, http.StatusBadRequest, codes.InvalidArgument, "UNKNOWN_FIELD")
	require.Contains(t, e.Message, `"agents[1].emial"`)
}

// Where nothing has to be said, nothing need be sent; where something has to be,
// the service says what.
func TestBody_empty_isAnEmptyRequest(t *testing.T) {
	s := newSuite(t)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/v1/signOut", "", bearer("agent")...).StatusCode)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/v1/signOut", " \n", bearer("agent")...).StatusCode)
	require.Equal(t, http.StatusOK, s.do(http.MethodDelete, "/v1/me/factors/f1", "{}", bearer("agent")...).StatusCode)
	r := s.do(http.MethodPost, "/v1/signIn", "")
	requireRefused(t, r, http.StatusBadRequest, codes.InvalidArgument, "INVALID_FIELD")
}

func TestQuery_thatTheMethodHasNoRoomFor_isRefused(t *testing.T) {
	s := newSuite(t)
	for name, c := range map[string]struct{ call, reason string }{
		"unknown":                 {"GET /v1/accounts/acme/agents?hunter2=1", "UNKNOWN_FIELD"},
		"a token":                 {"GET /v1/me?access_token=hunter2", "UNKNOWN_FIELD"},
		"without a name":          {"GET /v1/accounts/acme/agents?=hunter2", "UNKNOWN_FIELD"},
		"wrong case":              {"GET /v1/accounts/acme/agents?PageSize=1", "UNKNOWN_FIELD"},
		"a part of a field":       {"GET /v1/accounts/acme/agents?filter.x=hunter2", "UNKNOWN_FIELD"},
		"a key of a field":        {"GET /v1/accounts/acme/agents?filter[x]=hunter2", "UNKNOWN_FIELD"},
		"what the path says":      {"GET /v1/accounts/acme/agents?parent=accounts/hunter2", "UNKNOWN_FIELD"},
		"twice":                   {"GET /v1/accounts/acme/agents?pageSize=1&pageSize=2", "INVALID_FIELD"},
		"twice, by both names":    {"GET /v1/accounts/acme/agents?pageSize=1&page_size=2", "INVALID_FIELD"},
		"no number":               {"GET /v1/accounts/acme/agents?pageSize=hunter2", "INVALID_FIELD"},
		"empty":                   {"GET /v1/accounts/acme/agents?pageSize=", "INVALID_FIELD"},
		"no UTF-8":                {"GET /v1/accounts/acme/agents?query=%ffhunter2", "INVALID_FIELD"},
		"a path of no UTF-8":      {"GET /v1/accounts/hunter2%ff/agents", "INVALID_FIELD"},
		"a broken escape":         {"GET /v1/accounts/acme/agents?query=%zzhunter2", "INVALID_FIELD"},
		"a semicolon":             {"GET /v1/accounts/acme/agents?pageSize=1;query=hunter2", "INVALID_FIELD"},
		"on POST":                 {"POST /v1/signIn:verify?totpCode=hunter2", "UNKNOWN_FIELD"},
		"on DELETE":               {"DELETE /v1/me/factors/f1?force=true", "UNKNOWN_FIELD"},
		"what the body says":      {"PATCH " + policyPath + "?mfaPolicy.enforced=true", "UNKNOWN_FIELD"},
		"the body whole":          {"PATCH " + policyPath + "?mfaPolicy=hunter2", "UNKNOWN_FIELD"},
		"the name in the path":    {"PATCH " + policyPath + "?mfaPolicy.name=accounts/hunter2/mfaPolicy", "UNKNOWN_FIELD"},
		"a mask of another field": {"PATCH " + policyPath + "?updateMask=enforced", "UNKNOWN_FIELD"},
		"a mask, in its words":    {"PATCH " + policyPath + "?update_mask=*", "UNKNOWN_FIELD"},
		"a part of a mask":        {"PATCH " + policyPath + "?updateMask.paths=enforced", "UNKNOWN_FIELD"},
		"the field, in its words": {"PATCH " + policyPath + "?mfa_policy.revision=7", "UNKNOWN_FIELD"},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			r := s.do(method, path, "", bearer("admin")...)
			e := requireRefused(t, r, http.StatusBadRequest, codes.InvalidArgument, c.reason)
			require.NotContains(t, e.Message, "accounts/hunter2")
		})
	}
	require.Empty(t, s.taken())
}

// AIP-134: what is not in the body of a PATCH stays as it is.
func TestPatch_changesWhatTheBodyNames(t *testing.T) {
	s := newSuite(t)
	for body, mask := range map[string][]string{
		`{"enforced":false}`:                         {"enforced"},
		`{"enforced":true,"etag":"abc"}`:             {"enforced", "etag"},
		`{"gracePeriod":"0s"}`:                       {"grace_period"},
		`{"applyToSso":false,"grace_period":"120s"}`: {"apply_to_sso", "grace_period"},
		`{"name":"accounts/acme/mfaPolicy"}`:         {"name"},
		`{}`:                                         nil,
		``:                                           nil,
	} {
		r := s.do(http.MethodPatch, policyPath, body, bearer("admin")...)
		require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
		calls := s.taken()
		require.Len(t, calls, 1)
		request, ok := calls[0].request.(*policyv1.UpdateMfaPolicyRequest)
		require.True(t, ok)
		require.NotNil(t, request.GetUpdateMask(), "without a mask everything would be changed")
		require.Equal(t, mask, request.GetUpdateMask().GetPaths(), body)
		require.Equal(t, "accounts/acme/mfaPolicy", request.GetMfaPolicy().GetName())
	}
}

func TestRouting_unknownRoutesAndMethods(t *testing.T) {
	s := newSuite(t)
	for _, path := range []string{
		"/v2/me", "/v1/", "/v1/nothing", "/v1/me/", "/V1/me", "/v1/accounts/acme/agents:nothing", "/v1/accounts/a%2Fb/agents/c/d",
		"/twofold.auth.v1.ProfileService/GetMe", "/v1/accounts/acme%2Fagents%2Fx/mfaPolicy%2Frevisions",
	} {
		r := s.do(http.MethodGet, path, "", bearer("admin")...)
		requireRefused(t, r, http.StatusNotFound, codes.Unimplemented, "METHOD_UNKNOWN")
	}
	for call, allow := range map[string]string{
		"DELETE /v1/me":                  "GET",
		"PUT " + policyPath:              "GET, PATCH",
		"GET /v1/signIn":                 "POST",
		"PATCH /v1/accounts/acme/agents": "GET, POST",
		"OPTIONS /v1/accounts/acme":      "GET",
	} {
		method, path, _ := strings.Cut(call, " ")
		r := s.do(method, path, "", bearer("agent")...)
		requireRefused(t, r, http.StatusMethodNotAllowed, codes.Unimplemented, "METHOD_UNKNOWN")
		require.Equal(t, allow, r.Header.Get("Allow"))
	}
	// An escaped slash does not make a longer name out of a short one.
	r := s.do(http.MethodGet, "/v1/accounts/acme%2Fagents%2Fx", "", bearer("admin")...)
	require.Equal(t, http.StatusOK, r.StatusCode)
	calls := s.taken()
	require.Equal(t, authv1.AccountService_GetAccount_FullMethodName, calls[len(calls)-1].method)
}

func TestBody_tooLarge(t *testing.T) {
	s := newSuite(t)
	large := []byte(`{"agents":[{"email":"` + strings.Repeat("a", 1<<20) + `"}]}`)
	const path = "/v1/accounts/acme/agents:import"
	for name, body := range map[string]io.Reader{
		"announced":    bytes.NewReader(large),
		"chunked":      io.MultiReader(bytes.NewReader(large)), // of unknown length
		"only spaces":  io.MultiReader(strings.NewReader(strings.Repeat(" ", 1<<20+1))),
		"on GET":       nil,
		"on a PATCH":   nil,
		"nearly twice": io.MultiReader(bytes.NewReader(large), bytes.NewReader(large[:1000])),
	} {
		t.Run(name, func(t *testing.T) {
			method, to := http.MethodPost, path
			switch name {
			case "on GET":
				method, to, body = http.MethodGet, "/v1/me", bytes.NewReader(large)
			case "on a PATCH":
				method, to, body = http.MethodPatch, policyPath, io.MultiReader(bytes.NewReader(large))
			}
			r := s.send(method, to, body, bearer("admin")...)
			requireRefused(t, r, http.StatusRequestEntityTooLarge, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
		})
	}
	require.Empty(t, s.taken())
}

// The largest import fits, with long names and hashes as PHC strings.
func TestBody_importOfAThousand_fits(t *testing.T) {
	s := newSuite(t)
	var rows []string
	for i := range 1000 {
		rows = append(rows, fmt.Sprintf(`{"email":"%s.%04d@mail.example.com","displayName":"%s","role":"AGENT","passwordHash":"%s"}`,
			strings.Repeat("e", 60), i, strings.Repeat("é", 60),
			"$argon2id$v=19$m=65536,t=3,p=4$"+strings.Repeat("s", 22)+"$"+strings.Repeat("h", 86)))
	}
	body := `{"agents":[` + strings.Join(rows, ",") + `],"sendInvitations":true}`
	t.Logf("%d bytes", len(body))
	r := s.do(http.MethodPost, "/v1/accounts/acme/agents:import", body, bearer("admin")...)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
	request, ok := s.taken()[0].request.(*authv1.ImportAgentsRequest)
	require.True(t, ok)
	require.Len(t, request.GetAgents(), 1000)
}
