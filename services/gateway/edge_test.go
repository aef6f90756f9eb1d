package gateway_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
)

// Nothing that a caller says of itself in a header reaches a service, except what
// it calls its software.
func TestHeaders_ofCallers_haveNoEffect(t *testing.T) {
	s := newSuite(t)
	r := s.do(http.MethodGet, "/v1/me", "",
		"Authorization", "Bearer agent",
		"User-Agent", "Chät/1.0 \t(phone)",
		"Grpc-Metadata-Authorization", "Bearer admin",
		"Grpc-Metadata-Twofold-Client-Address", "192.0.2.1",
		"Grpc-Metadata-X-User-Id", "42",
		"Grpc-Metadata-Foo-Bin", "AAAA",
		"Grpcgateway-Authorization", "Bearer admin",
		"Grpc-Timeout", "garbage",
		"Twofold-Client-Address", "192.0.2.1",
		"Twofold-Request-Id", "mine",
		"Twofold-Sign-In-Token", "stolen",
		"Twofold-User-Agent", "other",
		"X-Forwarded-For", "192.0.2.1",
		"X-Forwarded-Host", "evil.example",
		"Forwarded", "for=192.0.2.1",
		"X-Real-Ip", "192.0.2.1",
		"X-User-Id", "42",
		"Cookie", "__Host-twofold=admin; __Host-twofold-signin=stolen",
		"Te", "trailers",
		"Accept", "text/html",
	)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
	calls := s.taken()
	require.Len(t, calls, 1)
	md := calls[0].md
	require.Equal(t, []string{"Bearer agent"}, md.Get("authorization"))
	require.Equal(t, []string{"127.0.0.1"}, md.Get("twofold-client-address"))
	require.Equal(t, []string{"Ch?t/1.0 ?(phone)"}, md.Get("twofold-user-agent"))
	require.Equal(t, r.Header.Values("Twofold-Request-Id"), md.Get("twofold-request-id"))
	require.Empty(t, md.Get("twofold-sign-in-token"))
	for key, values := range md {
		for _, value := range values {
			require.NotContains(t, value, "192.0.2.1", key)
			require.NotContains(t, value, "evil", key)
			require.NotEqual(t, "42", value, key)
			require.NotContains(t, value, "stolen", key)
		}
	}
}

func TestHeaders_methodOverride_hasNoEffect(t *testing.T) {
	s := newSuite(t)
	r := s.do(http.MethodPost, "/v1/me/factors/f1", "", append(bearer("agent"), "X-HTTP-Method-Override", "DELETE",
		"Content-Type", "application/x-www-form-urlencoded")...)
	requireRefused(t, r, http.StatusMethodNotAllowed, codes.Unimplemented, "METHOD_UNKNOWN")
	r = s.do(http.MethodPost, "/v1/me", "", append(bearer("agent"), "Content-Type", "application/x-www-form-urlencoded")...)
	requireRefused(t, r, http.StatusMethodNotAllowed, codes.Unimplemented, "METHOD_UNKNOWN")
	require.Empty(t, s.taken())
}

func TestClientAddress_isTheNearestHopThatIsNoProxy(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for name, c := range map[string]struct {
		proxies   []netip.Prefix
		forwarded []string
		want      string
	}{
		"no proxy is trusted":       {nil, []string{"198.51.100.7"}, "127.0.0.1"},
		"nothing forwarded":         {proxies, nil, "127.0.0.1"},
		"one hop":                   {proxies, []string{"198.51.100.7"}, "198.51.100.7"},
		"a lie before it":           {proxies, []string{"192.0.2.1, 198.51.100.7"}, "198.51.100.7"},
		"several proxies":           {proxies, []string{"192.0.2.1, 198.51.100.7, 10.1.2.3"}, "198.51.100.7"},
		"several headers":           {proxies, []string{"192.0.2.1,198.51.100.7", " 10.1.2.3 ,10.1.2.4"}, "198.51.100.7"},
		"only proxies":              {proxies, []string{"10.9.9.9, 10.1.2.3"}, "10.9.9.9"},
		"garbage nearest":           {proxies, []string{"198.51.100.7, unknown"}, "127.0.0.1"},
		"garbage beyond":            {proxies, []string{"unknown, 10.1.2.3"}, "10.1.2.3"},
		"garbage before a person":   {proxies, []string{"<script>, 198.51.100.7"}, "198.51.100.7"},
		"empty":                     {proxies, []string{""}, "127.0.0.1"},
		"IPv6":                      {proxies, []string{"2001:db8:2::7, 2001:db8:1::1"}, "2001:db8:2::7"},
		"IPv6 in brackets":          {proxies, []string{"[2001:db8:2::7]"}, "2001:db8:2::7"},
		"with ports":                {proxies, []string{"[2001:db8:2::7]:443, 10.1.2.3:80"}, "2001:db8:2::7"},
		"IPv4 written as IPv6":      {proxies, []string{"192.0.2.1, ::ffff:198.51.100.7, ::ffff:10.1.2.3"}, "198.51.100.7"},
		"a zone, which is nobody's": {proxies, []string{"fe80::1%eth0"}, "fe80::1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSuite(t, func(o *options) { o.config.TrustedProxies = c.proxies })
			headers := bearer("agent")
			for _, f := range c.forwarded {
				headers = append(headers, "X-Forwarded-For", f)
			}
			require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/v1/me", "", headers...).StatusCode)
			require.Equal(t, c.want, s.taken()[0].caller.ClientAddress.String())
		})
	}
}

func TestUserAgent_isCut(t *testing.T) {
	s := newSuite(t)
	s.do(http.MethodGet, "/v1/me", "", append(bearer("agent"), "User-Agent", strings.Repeat("x", 1000))...)
	require.Len(t, s.taken()[0].md.Get("twofold-user-agent")[0], 256)
}

func TestCrossOrigin_isRefused(t *testing.T) {
	s := newSuite(t)
	body := `{"account":"acme","email":"a@b.c","password":"p","client":"WEB"}`
	for name, headers := range map[string][]string{
		"another origin":    {"Origin", "https://evil.example"},
		"another site":      {"Sec-Fetch-Site", "cross-site"},
		"a sibling":         {"Sec-Fetch-Site", "same-site"},
		"a null origin":     {"Origin", "null"},
		"a form's encoding": {"Origin", "https://evil.example", "Content-Type", "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{"", "cookie"} {
				r := s.do(http.MethodPost, "/v1/signIn", body, append(headers, "Twofold-Session", mode)...)
				requireRefused(t, r, http.StatusForbidden, codes.PermissionDenied, "CROSS_ORIGIN_REFUSED")
				require.Equal(t, "no-store", r.Header.Get("Cache-Control"))
				require.NotEmpty(t, r.Header.Get("Twofold-Request-Id"))
			}
			r := s.do(http.MethodDelete, "/v1/me/factors/f1", "", append(headers, bearer("agent")...)...)
			requireRefused(t, r, http.StatusForbidden, codes.PermissionDenied, "CROSS_ORIGIN_REFUSED")
		})
	}
	require.Empty(t, s.taken())
	for _, headers := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, {"Origin", s.url}, nil} {
		require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/v1/signIn", body, headers...).StatusCode)
	}
	require.Equal(t, authv1.SignInService_SignIn_FullMethodName, s.taken()[0].method)
}
