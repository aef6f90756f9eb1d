package resource_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

const id = "01920000-0000-7000-8000-0000000000aa"

func TestParse_readsWhatItWrites(t *testing.T) {
	account, err := resource.ParseAccount("name", resource.Account("acme"))
	require.NoError(t, err)
	require.Equal(t, "acme", account)

	want := resource.AgentName{Account: "acme", Agent: id}
	got, err := resource.ParseAgent("name", want.String())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// A name becomes part of a NATS subject and of a Redis key; nothing that means
// something there may get through.
func TestParse_refuses(t *testing.T) {
	for _, name := range []string{"", "acme", "accounts/", "accounts/acme/", "accounts/a/b", "/accounts/acme"} {
		_, err := resource.ParseAccount("name", name)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	for _, name := range []string{"accounts/Acme", "accounts/a.b", "accounts/a*", "accounts/a>", "accounts/{a}", "accounts/a\n", "accounts/1acme"} {
		_, err := resource.ParseAccount("name", name)
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	}
	for _, name := range []string{"", "accounts/acme/agents/", "accounts//agents/" + id, "accounts/acme/agents/" + id + "/", "accounts/acme/people/" + id} {
		_, err := resource.ParseAgent("name", name)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
	for _, name := range []string{"accounts/acme/agents/x", "accounts/acme/agents/" + id + "\n", "accounts/a.b/agents/" + id} {
		_, err := resource.ParseAgent("name", name)
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	}
}
