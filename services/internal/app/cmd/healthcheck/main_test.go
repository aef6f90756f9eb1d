package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	code, asked := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.WriteHeader(code)
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)

	for _, addr := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port, "localhost:" + port} {
		require.NoError(t, check(t.Context(), []string{"TWOFOLD_METRICS_ADDR=" + addr}), addr)
		require.Equal(t, "/readyz", asked)
	}
	for _, code = range []int{http.StatusServiceUnavailable, http.StatusFound, http.StatusNotFound} {
		require.Error(t, check(t.Context(), []string{"TWOFOLD_METRICS_ADDR=:" + port}), code)
	}
	require.ErrorContains(t, check(t.Context(), nil), "TWOFOLD_METRICS_ADDR is not set")
	server.Close()
	require.Error(t, check(t.Context(), []string{"TWOFOLD_METRICS_ADDR=:" + port}))
}
