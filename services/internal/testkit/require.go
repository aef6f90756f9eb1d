package testkit

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorDomain is the domain of every ErrorInfo the suite sends.
const errorDomain = "twofold"

// RequireError requires that err is a gRPC error with this code and exactly one
// ErrorInfo, of the domain twofold and with this reason. It returns that
// ErrorInfo for tests that look at its metadata.
func RequireError(t testing.TB, err error, code codes.Code, reason string) *errdetails.ErrorInfo {
	t.Helper()
	require.Error(t, err)
	st, ok := status.FromError(err)
	require.Truef(t, ok, "not a gRPC error: %v", err)
	require.Equalf(t, code, st.Code(), "code of %v", err)
	var infos []*errdetails.ErrorInfo
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			infos = append(infos, info)
		}
	}
	require.Lenf(t, infos, 1, "exactly one ErrorInfo in %v", err)
	require.Equal(t, errorDomain, infos[0].GetDomain(), "domain")
	require.Equal(t, reason, infos[0].GetReason(), "reason")
	return infos[0]
}

// Strict reports whether a missing dependency fails a test rather than skip it.
func Strict() bool {
	return os.Getenv("CI") != "" || os.Getenv("TWOFOLD_TEST_STRICT") != ""
}

// missing ends the test because something it needs is not installed.
func missing(t testing.TB, what string) {
	t.Helper()
	if Strict() {
		t.Fatalf("%s is not installed; `make test` installs it", what)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s is not installed; `make test` installs it and runs this test", what)
}
