package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/authz"
)

func TestLoadConfig_defaults(t *testing.T) {
	c, err := LoadConfig([]string{"PATH=/bin", "TWOFOLD_TEST_STRICT=1", "TWOFOLD_HTTP_ADDR=", "TWOFOLDER=1"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", c.HTTPAddr)
	require.Equal(t, "127.0.0.1:9090", c.GRPCAddr)
	require.Equal(t, 168*time.Hour, c.DefaultGracePeriod)
	require.Zero(t, c.MinGracePeriod)
	require.Equal(t, 1, c.NATSReplicas)
	require.False(t, c.NoDemo)
	require.Zero(t, c.ShutdownDelay)
	require.Equal(t, 25*time.Second, c.ShutdownTimeout)
}

func TestLoadConfig_values(t *testing.T) {
	c, err := LoadConfig([]string{
		"TWOFOLD_DATABASE_URL=postgres://u:p@h/db", "TWOFOLD_TRUSTED_PROXIES=10.0.0.0/8, 192.0.2.1,2001:db8::1", "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_MIN_GRACE_PERIOD=20s", "TWOFOLD_MAIL_FROM=Twofold <no-reply@example.com>", "TWOFOLD_OPERATOR_TOKEN=0123456789abcdef",
	}, "TWOFOLD_DATABASE_URL")
	require.NoError(t, err)
	require.Equal(t, "postgres://u:p@h/db", c.DatabaseURL.Reveal())
	require.Equal(t, "[10.0.0.0/8 192.0.2.1/32 2001:db8::1/128]", fmt.Sprint(c.TrustedProxies))
	require.True(t, c.NoDemo)
	require.Equal(t, 20*time.Second, c.MinGracePeriod)
}

// Whoever sets a process up sees everything that is wrong in one go, and no
// secret on the screen.
func TestLoadConfig_reportsEverythingAtOnceAndNoValues(t *testing.T) {
	_, err := LoadConfig([]string{
		"TWOFOLD_DATABSE_URL=postgres://hunter2", "TWOFOLD_DATABASE_URL=mysql://root:hunter2@h", "TWOFOLD_REDIS_URL=hunter2",
		"TWOFOLD_OPERATOR_TOKEN=hunter2", "TWOFOLD_MIN_GRACE_PERIOD=hunter2", "TWOFOLD_NO_DEMO=hunter2", "TWOFOLD_TRUSTED_PROXIES=hunter2",
		"TWOFOLD_TLS_CERT=x", "TWOFOLD_HTTP_ADDR=8080", "TWOFOLD_PUBLIC_URL=twofold.example", "TWOFOLD_MAIL_FROM=nobody", "TWOFOLD_LOG_LEVEL=loud",
		"TWOFOLD_NATS_REPLICAS=9", "TWOFOLD_SHUTDOWN_DELAY=-5s", "TWOFOLD_SHUTDOWN_TIMEOUT=25m", "TWOFOLD_SMTP_URL=mail.example:25",
	}, "TWOFOLD_KEYS_FILE", "TWOFOLD_DATABASE_URL")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	for _, want := range []string{
		"TWOFOLD_DATABSE_URL is not a variable", "TWOFOLD_DATABASE_URL is neither", "TWOFOLD_REDIS_URL is neither", "TWOFOLD_OPERATOR_TOKEN is shorter",
		"TWOFOLD_MIN_GRACE_PERIOD is not a valid duration", "TWOFOLD_NO_DEMO is not a valid truth value", "TWOFOLD_TRUSTED_PROXIES is not a valid list",
		"TWOFOLD_TLS_CA are set only in part", "TWOFOLD_HTTP_ADDR is not", "TWOFOLD_PUBLIC_URL is not", "TWOFOLD_MAIL_FROM is not", "TWOFOLD_LOG_LEVEL is not",
		"TWOFOLD_NATS_REPLICAS is not", "TWOFOLD_SMTP_URL is neither", "TWOFOLD_KEYS_FILE is not set",
		"TWOFOLD_SHUTDOWN_DELAY is not", "TWOFOLD_SHUTDOWN_TIMEOUT is not",
	} {
		require.Contains(t, err.Error(), want)
	}
	_, err = LoadConfig([]string{"TWOFOLD_MIN_GRACE_PERIOD=200h"})
	require.ErrorContains(t, err, "shorter than TWOFOLD_MIN")
}

func TestConfig_everyFieldHasItsVariable(t *testing.T) {
	seen := map[string]bool{}
	for field, name := range variables() {
		require.Equal(t, strings.ToUpper(field), strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", ""))
		require.False(t, seen[name])
		seen[name] = true
	}
	require.Len(t, seen, reflect.TypeFor[Config]().NumField())
}

func TestSecret_isNeverPrinted(t *testing.T) {
	config := &Config{OperatorToken: "hunter2", DatabaseURL: "postgres://u:hunter2@h"}
	encoded, err := json.Marshal(config)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", config, "token", config.OperatorToken)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", config, "token", config.OperatorToken)
	for _, text := range []string{
		fmt.Sprint(config), fmt.Sprintf("%v %+v %#v %s %q", *config, *config, *config, config.OperatorToken, config.OperatorToken),
		string(encoded), log.String(),
	} {
		require.NotContains(t, text, "hunter2")
	}
	require.Contains(t, string(encoded), "[secret]")
}

func TestLogger_addsTheRequestID(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := NewLogger(&out, &Config{LogFormat: format, LogLevel: "info"})
		require.NoError(t, err)
		log = log.With("a", 1)
		log.InfoContext(authz.NewContext(t.Context(), &authz.Caller{RequestID: "req-7"}), "x")
		require.Contains(t, out.String(), "req-7")
		out.Reset()
		log.DebugContext(t.Context(), "quiet")
		require.Empty(t, out.String())
		log.InfoContext(t.Context(), "x")
		require.NotContains(t, out.String(), "request_id")
	}
}

var errTask = errors.New("disk on fire")

func TestMetricsHandler(t *testing.T) {
	var notReady error
	var out bytes.Buffer
	server := httptest.NewServer(metricsHandler(NewRegistry(), func(context.Context) error { return notReady }, slog.New(slog.NewTextHandler(&out, nil))))
	defer server.Close()
	get := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, http.NoBody)
		require.NoError(t, err)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		defer func() { require.NoError(t, response.Body.Close()) }()
		var body bytes.Buffer
		_, err = body.ReadFrom(response.Body)
		require.NoError(t, err)
		return response.StatusCode, body.String()
	}
	code, body := get("/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "go_goroutines")
	code, _ = get("/readyz")
	require.Equal(t, http.StatusOK, code)
	notReady = errTask
	code, body = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NotContains(t, body, errTask.Error())
	code, _ = get("/healthz")
	require.Equal(t, http.StatusOK, code)
	code, _ = get("/debug/pprof/")
	require.Equal(t, http.StatusNotFound, code)
}

func TestServeMetrics_stopsWithItsContext(t *testing.T) {
	ready := func(context.Context) error { return nil }
	require.NoError(t, serveMetrics("", NewRegistry(), ready, slog.New(slog.DiscardHandler))(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveMetrics("127.0.0.1:0", NewRegistry(), ready, slog.New(slog.DiscardHandler))(ctx) }()
	cancel()
	err := <-ended
	if err != nil { // canceled before it listened
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Error(t, serveMetrics("256.0.0.1:0", NewRegistry(), ready, slog.New(slog.DiscardHandler))(t.Context()))
}

func TestExecute_exitCodes(t *testing.T) {
	run := func(environ []string, task func(context.Context, *Process) error) (int, string) {
		var stderr bytes.Buffer
		return execute(t.Context(), environ, &stderr, "session", nil, task), stderr.String()
	}
	ok := func(context.Context, *Process) error { return nil }
	code, _ := run(nil, ok)
	require.Equal(t, exitOK, code)
	code, text := run(nil, func(context.Context, *Process) error { return errTask })
	require.Equal(t, exitFailure, code)
	require.Contains(t, text, "disk on fire")
	code, text = run(nil, func(context.Context, *Process) error { panic("kaboom") })
	require.Equal(t, exitFailure, code)
	require.Contains(t, text, "kaboom")
	code, text = run([]string{"TWOFOLD_X=1"}, ok)
	require.Equal(t, exitBadSettings, code)
	require.Contains(t, text, "session: configuration:\n  TWOFOLD_X is not")
}
