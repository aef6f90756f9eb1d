package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestListRevisions_pages(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		p.create("globex")
		for i := range 6 {
			p.update(admin, enforced(i%2 == 0))
		}
		list := func(token, parent, page string, size int32) (*policyv1.ListMfaPolicyRevisionsResponse, error) {
			return p.people().ListMfaPolicyRevisions(with(t.Context(), token),
				&policyv1.ListMfaPolicyRevisionsRequest{Parent: parent, PageToken: page, PageSize: size})
		}
		var got []int64
		var page, first string
		for {
			resp, err := list(admin, acme, page, 3)
			require.NoError(t, err)
			for _, r := range resp.GetRevisions() {
				got = append(got, r.GetPolicy().GetRevision())
			}
			if page = resp.GetNextPageToken(); page == "" {
				break
			}
			if first == "" {
				first = page
				// What comes on top while somebody reads moves nothing.
				p.update(admin, enforced(true))
			}
		}
		require.Equal(t, []int64{7, 6, 5, 4, 3, 2, 1}, got)

		resp, err := list(admin, acme, "", 8)
		require.NoError(t, err)
		require.Len(t, resp.GetRevisions(), 8)
		require.Empty(t, resp.GetNextPageToken())

		_, err = list(admin, acme, first[:len(first)-2]+"AA", 3)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidPageToken)
		_, err = list(globexAdmin, "accounts/globex/mfaPolicy", first, 3)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidPageToken)
		_, err = list(admin, acme, "", 201)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
		_, err = list(globexAdmin, acme, "", 0)
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		_, err = list(operatorToken, "accounts/initech/mfaPolicy", "", 0)
		testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		_, err = list(admin, "accounts/acme", "", 0)
		testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	})
}
