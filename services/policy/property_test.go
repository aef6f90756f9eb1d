package policy

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// Whatever is sent, in whatever order and however often: the revisions are
// numbered without a gap, each follows from the one before, the newest is the
// policy, and each change of an enforcement has one event with its version.
func TestUpdates_anySequence_totalOrder(t *testing.T) {
	s := openStore(t, testkit.SQLite(t))
	var accounts atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		account := fmt.Sprint("account-", accounts.Add(1))
		_, err := s.create(t.Context(), account, first, byAuth)
		require.NoError(t, err)
		model := first
		revision, wantEvents := int64(1), []int64{}
		answers := map[string]*policyv1.UpdateMfaPolicyResponse{}

		for range rapid.IntRange(1, 12).Draw(t, "updates") {
			desired := enforcement.Settings{
				Enforced:    rapid.Bool().Draw(t, "enforced"),
				GracePeriod: rapid.SampledFrom([]time.Duration{0, time.Hour, MaxGracePeriod}).Draw(t, "period"),
				ApplyToSSO:  rapid.Bool().Draw(t, "sso"),
			}
			u := to(account, desired)
			id := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "id")
			content := fmt.Sprint(desired)
			u.request = idempotency.Key{Scope: account, RequestID: id, Method: "m"}
			u.fingerprint = idempotency.Fingerprint{Sum: []byte(content)}

			result, err := s.update(t.Context(), u)
			if answer, repeated := answers[id+content]; repeated {
				require.NoError(t, err)
				require.Empty(t, result.transition)
				require.True(t, proto.Equal(answer, result.answer))
				continue
			}
			if answers[id] != nil {
				require.ErrorIs(t, err, idempotency.ErrReused)
				continue
			}
			require.NoError(t, err)
			if id != "" {
				answers[id], answers[id+content] = result.answer, result.answer
			}
			if desired != model {
				revision++
				if desired.Enforced || model.Enforced {
					wantEvents = append(wantEvents, revision)
				}
			}
			model = desired
			require.Equal(t, revision, result.answer.GetMfaPolicy().GetRevision())
		}
		requireHistory(t, s, account, revision)
		require.Equal(t, wantEvents, versionsOf(t, s, account))
	})
}

// contextT is a *testing.T or a *rapid.T.
type contextT interface {
	require.TestingT
	Context() context.Context
}

// requireHistory checks the history of an account against the rule.
func requireHistory(t contextT, s *store, account string, newest int64) {
	revisions, err := s.revisions(t.Context(), account, 0, 1000)
	require.NoError(t, err)
	require.Len(t, revisions, int(newest))
	current, err := s.get(t.Context(), account)
	require.NoError(t, err)
	top := revisions[0].policy
	top.endedRevokeTime = current.endedRevokeTime // no part of a revision
	require.Equal(t, current, top)

	var ended time.Time
	for i := len(revisions) - 2; i >= 0; i-- {
		older, newer := revisions[i+1], revisions[i]
		require.False(t, newer.updateTime.Before(older.updateTime))
		want, transition := older.Change(newer.Settings, newer.updateTime)
		require.Equal(t, want, newer.Policy)
		switch transition {
		case enforcement.Disabled:
			ended = older.SessionRevokeTime()
			require.Zero(t, newer.previousRevokeTime)
		case enforcement.Enabled:
			require.Equal(t, ended, newer.previousRevokeTime)
		default:
			require.Equal(t, enforcement.Updated, transition)
			require.Zero(t, newer.previousRevokeTime)
		}
	}
	require.Equal(t, ended, current.endedRevokeTime)
}

// versionsOf are the versions of an account's events, in the order in which they
// are published.
func versionsOf(t contextT, s *store, account string) []int64 {
	rows, err := s.db.Query(t.Context(), `SELECT version FROM outbox WHERE account = ? ORDER BY create_time, version`, account)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	versions := []int64{}
	for rows.Next() {
		var v int64
		require.NoError(t, rows.Scan(&v))
		versions = append(versions, v)
	}
	require.NoError(t, rows.Err())
	return versions
}
