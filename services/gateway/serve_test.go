package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/gateway"
)

func TestHealth(t *testing.T) {
	s := newSuite(t, func(o *options) {
		o.ready = map[string]func(context.Context) error{
			"policy": func(context.Context) error { return nil },
			"auth":   func(context.Context) error { return errors.New("dial 10.0.0.1: refused") },
			"session": func(ctx context.Context) error { // must not take the others' time
				<-ctx.Done()
				return ctx.Err()
			},
		}
	})
	r := s.do(http.MethodGet, "/healthz", "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.JSONEq(t, `{"status":"ok"}`, string(r.body))
	r = s.do(http.MethodGet, "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
	require.JSONEq(t, `{"policy":"ok","auth":"unavailable","session":"unavailable"}`, string(r.body))
	require.Contains(t, s.logged(), "10.0.0.1")
	require.ErrorContains(t, s.gateway.Ready(t.Context()), "auth")
	requireRefused(t, s.do(http.MethodPost, "/healthz", ""), http.StatusNotFound, codes.Unimplemented, "METHOD_UNKNOWN")

	s = newSuite(t)
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/readyz", "").StatusCode)
	require.NoError(t, s.gateway.Ready(t.Context()))

	s.gateway.Unready()
	require.Equal(t, http.StatusServiceUnavailable, s.do(http.MethodGet, "/readyz", "").StatusCode)
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/healthz", "").StatusCode, "it lives, and serves")
}

func TestPages_doNotHideTheAPI(t *testing.T) {
	s := newSuite(t, func(o *options) {
		o.pages = map[string]http.Handler{"/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("page")) })}
	})
	require.Equal(t, "page", string(s.do(http.MethodGet, "/anything", "").body))
	requireRefused(t, s.do(http.MethodGet, "/v1/anything", ""), http.StatusNotFound, codes.Unimplemented, "METHOD_UNKNOWN")
}

// A call that is under way when the process is told to stop gets its answer.
func TestStop_letsCallsFinish(t *testing.T) {
	s := newSuite(t)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s.answerWith(authv1.ProfileService_GetMe_FullMethodName, func(context.Context, proto.Message) (proto.Message, error) {
		close(arrived)
		<-goOn
		return &authv1.GetMeResponse{RecoveryCodesLeft: 9}, nil
	})
	type result struct {
		status int
		err    error
	}
	results := make(chan result, 1)
	request := s.request(http.MethodGet, "/v1/me", nil, bearer("agent")...)
	go func() {
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			results <- result{err: err}
			return
		}
		_ = response.Body.Close()
		results <- result{status: response.StatusCode}
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() {
		s.stops["rest"]()
		close(stopped)
	}()
	close(goOn)
	got := <-results
	require.NoError(t, got.err)
	require.Equal(t, http.StatusOK, got.status)
	<-stopped
}

func TestConfig_namesEveryMistake(t *testing.T) {
	require.NoError(t, gateway.DefaultConfig().Validate())
	_, err := gateway.New(gateway.Config{WatchLimit: -time.Second}, gateway.Deps{})
	for _, field := range []string{"CallTimeout", "WatchInterval", "WatchLimit", "StopTimeout"} {
		require.ErrorContains(t, err, field)
	}
}
