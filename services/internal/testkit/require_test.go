package testkit_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestRequireError(t *testing.T) {
	info := func(reason, domain string) protoadapt.MessageV1 {
		return &errdetails.ErrorInfo{Reason: reason, Domain: domain}
	}
	cases := []struct {
		name string
		err  error
		ok   bool
	}{
		{"code, reason and domain as asked", grpcError(t, codes.Aborted, info("STALE", "twofold")), true},
		{"another detail beside it", grpcError(t, codes.Aborted, info("STALE", "twofold"), &errdetails.RetryInfo{}), true},
		{"another code", grpcError(t, codes.Internal, info("STALE", "twofold")), false},
		{"another reason", grpcError(t, codes.Aborted, info("OTHER", "twofold")), false},
		{"another domain", grpcError(t, codes.Aborted, info("STALE", "example.com")), false},
		{"two reasons", grpcError(t, codes.Aborted, info("STALE", "twofold"), info("STALE", "twofold")), false},
		{"no reason", grpcError(t, codes.Aborted), false},
		{"not a gRPC error", errors.New("STALE"), false},
		{"no error", nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := &probeTB{TB: t}
			done := make(chan struct{})
			go func() { // for FailNow ends the goroutine
				defer close(done)
				testkit.RequireError(probe, c.err, codes.Aborted, "STALE")
			}()
			<-done
			require.Equal(t, c.ok, !probe.failed)
		})
	}
}

// probeTB notes a failure instead of failing the test.
type probeTB struct {
	testing.TB
	failed bool
}

func (p *probeTB) Errorf(string, ...any) { p.failed = true }
func (p *probeTB) Helper()               {}
func (p *probeTB) FailNow() {
	p.failed = true
	runtime.Goexit()
}

func grpcError(t *testing.T, code codes.Code, details ...protoadapt.MessageV1) error {
	t.Helper()
	st, err := status.New(code, "a sentence").WithDetails(details...)
	require.NoError(t, err)
	return st.Err()
}
