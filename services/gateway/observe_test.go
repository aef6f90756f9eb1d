package gateway_test

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit/otlpsink"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

const (
	callersTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersParent = "00-" + callersTrace + "-00f067aa0ba902b7-01"
)

// Requests are traced, measured and logged by their route. What stands in paths,
// queries and bodies is nowhere, and neither is what somebody made up.
func TestObserve_byRoute(t *testing.T) {
	sink := otlpsink.Start(t)
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: sink.URL(), Service: "gateway", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	s := newSuite(t, func(o *options) { o.tracing = tracer })
	for _, request := range []struct{ method, path, body string }{
		{http.MethodGet, "/v1/accounts/acme/agents/canary-path?canary=canary-query", ""},
		{http.MethodPost, "/v1/signIn", `{"account":"acme","email":"canary-body@acme.example","password":"canary-password"}`},
		{http.MethodGet, "/v1/canary-route/canary-token", ""},
		{"CANARY", "/v1/me", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, s.url+request.path, strings.NewReader(request.body))
		require.NoError(t, err)
		r.Header.Set("Traceparent", callersParent)
		r.Header.Set("Authorization", "Bearer agent")
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.NotEmpty(t, response.Header.Get("Twofold-Request-Id"))
	}
	s.stops["rest"]()
	tracer.Stop(t.Context())

	names := map[string]otlpsink.Span{}
	for _, span := range sink.Spans() {
		names[span.Name] = span
		require.NotEqual(t, callersTrace, span.TraceID, "a stranger's trace is not continued")
		require.Equal(t, []string{callersTrace}, span.Links)
		require.NotEmpty(t, span.Attributes["twofold.request_id"])
	}
	require.Len(t, names, 4)
	for _, name := range []string{"GET /v1/{name=accounts/*/agents/*}", "POST /v1/signIn", "GET none", "OTHER none"} {
		require.Contains(t, names, name)
	}
	require.Equal(t, 1, requests(t, s, "GET", "/v1/{name=accounts/*/agents/*}", "400"))
	require.Equal(t, 1, requests(t, s, "GET", "none", "404"))
	for _, output := range append(sink.Bodies(), []byte(s.logged())) {
		require.NotContains(t, strings.ToLower(string(output)), "canary")
	}
	require.Contains(t, s.logged(), `route="/v1/{name=accounts/*/agents/*}" status=400`)
}

// Behind a proxy that is trusted, the proxy's trace goes on.
func TestObserve_continuesTheTraceOfTrustedProxies(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for _, test := range []struct{ sent, want string }{{callersParent, callersTrace}, {"", ""}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/me", http.NoBody)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer agent")
		r.Header.Set("Traceparent", test.sent)
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		calls := s.taken()
		sent := calls[len(calls)-1].md.Get("traceparent")
		require.Len(t, sent, 1, "every call has a trace, whether or not anybody records it")
		if test.want != "" {
			require.Contains(t, sent[0], test.want)
		}
	}
}

func requests(t *testing.T, s *suite, method, route, status string) int {
	t.Helper()
	families, err := s.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "twofold_http_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["method"] == method && labels["route"] == route && labels["status"] == status {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}
