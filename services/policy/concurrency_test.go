package policy_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// Two admins toggle at once, at two copies of the service. Every OK is one
// revision, of two with the same etag one is ABORTED, and the events tell the
// same story in the same order.
func TestUpdate_twoAdminsAtOnce_totalOrder(t *testing.T) {
	const rounds = 200
	onBoth(t, func(t *testing.T, s *suite) {
		copies := []*process{s.start(), s.start()}
		for _, p := range copies {
			p.background()
		}
		copies[0].create("acme")
		revision, on := int64(1), false
		for round := range rounds {
			current := copies[0].get()
			require.Equal(t, revision, current.GetRevision())
			withEtag := round%2 == 0
			// Both want the same, or each something else.
			wants := [2]*policyv1.UpdateMfaPolicyRequest{enforced(!on), enforced(!on)}
			if round%4 > 1 {
				wants[1] = grace(time.Duration(round) * time.Minute)
			}
			var got [2]*policyv1.MfaPolicy
			var failed [2]error
			var wg sync.WaitGroup
			for i, token := range []string{admin, owner} {
				if withEtag {
					wants[i].MfaPolicy.Etag = current.GetEtag()
				}
				wg.Go(func() {
					var resp *policyv1.UpdateMfaPolicyResponse
					resp, failed[i] = copies[i].people().UpdateMfaPolicy(with(t.Context(), token), wants[i])
					got[i] = resp.GetMfaPolicy()
				})
			}
			wg.Wait()
			revision, on = judgeRound(t, round, withEtag, round%4 > 1, revision, got, failed)
		}
		final := copies[1].get()
		require.Equal(t, revision, final.GetRevision())
		require.Equal(t, revision, s.sessions.of("acme").GetRevision())
		requireStory(t, s, copies[0], final)
	})
}

// judgeRound checks one round's answers and returns the policy's revision and
// whether it is enforced after it.
func judgeRound(t *testing.T, round int, withEtag, differ bool, before int64,
	got [2]*policyv1.MfaPolicy, failed [2]error,
) (after int64, on bool) {
	t.Helper()
	ok := 0
	for i, err := range failed {
		if err == nil {
			ok++
			if got[i].GetRevision() > after {
				after, on = got[i].GetRevision(), got[i].GetEnforced()
			}
			continue
		}
		require.True(t, withEtag, "round %d: %v", round, err)
		testkit.RequireError(t, err, codes.Aborted, errs.ReasonEtagMismatch)
	}
	switch {
	case withEtag:
		require.Equal(t, 1, ok, "round %d: exactly one saw its etag hold", round)
		require.Equal(t, before+1, after)
	case differ:
		require.Equal(t, 2, ok)
		require.Equal(t, before+2, after)
		require.NotEqual(t, got[0].GetRevision(), got[1].GetRevision())
	default:
		require.Equal(t, 2, ok)
		require.Equal(t, before+1, after, "round %d: the same twice is one change", round)
		requireSame(t, got[0], got[1])
	}
	return after, on
}

// requireStory compares the history with the events of the stream.
func requireStory(t *testing.T, s *suite, p *process, final *policyv1.MfaPolicy) {
	t.Helper()
	var history []*policyv1.MfaPolicy // oldest first
	var page string
	for {
		resp, err := p.people().ListMfaPolicyRevisions(with(t.Context(), admin),
			&policyv1.ListMfaPolicyRevisionsRequest{Parent: acme, PageSize: 200, PageToken: page})
		require.NoError(t, err)
		for _, r := range resp.GetRevisions() {
			history = append([]*policyv1.MfaPolicy{r.GetPolicy()}, history...)
		}
		if page = resp.GetNextPageToken(); page == "" {
			break
		}
	}
	require.Len(t, history, int(final.GetRevision()))
	requireSame(t, final, history[len(history)-1])
	var want []string
	for i := 1; i < len(history); i++ {
		if history[i].GetEnforced() || history[i-1].GetEnforced() {
			want = append(want, strconv.FormatInt(history[i].GetRevision(), 10))
		}
	}
	// Two relays may each publish an event before the other says it has; the
	// stream drops the second. So the order is exact.
	var got []string
	for _, msg := range s.published(len(want)) {
		got = append(got, msg.Headers().Get("ce-aggregateversion"))
	}
	require.Equal(t, want, got)
}

// The same request many times at once, as a client does that gives up too soon.
func TestUpdate_sameRequestAtOnce_oneChange(t *testing.T) {
	const rounds, callers = 20, 6
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.background()
		p.create("acme")
		for round := range rounds {
			req := enforced(round%2 == 0)
			req.RequestId = fmt.Sprint("round-", round)
			var wg sync.WaitGroup
			got := make([]*policyv1.MfaPolicy, callers)
			for i := range callers {
				wg.Go(func() {
					resp, err := p.people().UpdateMfaPolicy(with(t.Context(), admin), req)
					if err != nil {
						t.Errorf("caller %d: %v", i, err)
					}
					got[i] = resp.GetMfaPolicy()
				})
			}
			wg.Wait()
			for _, g := range got {
				requireSame(t, got[0], g)
			}
			require.EqualValues(t, round+2, got[0].GetRevision())
		}
		s.published(rounds)
	})
}

// Callers who give up at any moment leave whole changes or none.
func TestUpdate_callersGiveUp_wholeChangesOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.background()
		p.create("acme")
		for round := range 60 {
			ctx, cancel := context.WithTimeout(with(t.Context(), admin), time.Duration(round)*200*time.Microsecond)
			_, err := p.people().UpdateMfaPolicy(ctx, enforced(round%2 == 0))
			cancel()
			if err != nil {
				// Unavailable: the driver's clock for the same deadline was first.
				require.Contains(t, []codes.Code{codes.DeadlineExceeded, codes.Canceled, codes.Unavailable}, status.Code(err))
			}
		}
		// A last change settles what the given up ones left.
		p.update(admin, grace(time.Minute))
		p.update(admin, enforced(true))
		requireStory(t, s, p, p.get())
	})
}
