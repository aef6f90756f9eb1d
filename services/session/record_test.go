package session

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

func drawTime(t *rapid.T, label string) time.Time {
	return time.UnixMicro(rapid.Int64Range(1_600_000_000_000_000, 4_000_000_000_000_000).Draw(t, label)).UTC()
}

func drawRef(t *rapid.T) sessionRef {
	ref := sessionRef{agentRef: agentRef{account: rapid.StringMatching(`[a-z][a-z0-9-]{0,62}`).Draw(t, "account")}}
	copy(ref.agent[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "agent"))
	copy(ref.id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	return ref
}

func TestRecord_roundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		create := drawTime(t, "create")
		r := &record{
			ref: drawRef(t), agentVersion: rapid.Int64Range(1, 1<<53).Draw(t, "version"),
			aal2: rapid.Bool().Draw(t, "aal2"), exempt: rapid.Bool().Draw(t, "exempt"), keep: rapid.Bool().Draw(t, "keep"),
			firstFactor: sessionv1.Session_SSO, role: sessionv1.Session_OWNER, kind: sessionv1.Client_DESKTOP,
			userAgent: rapid.String().Draw(t, "user agent"), address: rapid.String().Draw(t, "address"),
			create: create, expire: create.Add(time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "age")) * time.Millisecond),
			lastSeen: create.Add(time.Duration(rapid.Int64Range(0, 1<<30).Draw(t, "seen")) * time.Second),
		}
		copy(r.hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		if r.aal2 {
			r.factorVerify = create.Add(time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "verified")) * time.Microsecond)
		} else if rapid.Bool().Draw(t, "lowered") {
			r.lowered = create.Add(time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "since")) * time.Microsecond)
		}
		text := r.encode()
		got, tomb, err := decodeRecord(r.ref.id, text)
		require.NoError(t, err)
		require.Nil(t, tomb)
		require.Equal(t, r, got)
		_, _, err = decodeRecord(r.ref.id, text[:rapid.IntRange(0, len(text)-1).Draw(t, "cut")])
		require.Error(t, err)
	})
}

func TestTombstone_roundTrip(t *testing.T) {
	want := tombstone{cause: sessionv1.SessionsRevoked_MFA_POLICY, hash: [32]byte{1, 2, 3}}
	rec, got, err := decodeRecord(uuid.Nil, want.encode())
	require.NoError(t, err)
	require.Nil(t, rec)
	require.Equal(t, &want, got)
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add("S1;")
	f.Add(tombstone{cause: 1}.encode())
	f.Add((&record{ref: sessionRef{agentRef: agentRef{account: "a"}}, agentVersion: 1}).encode())
	f.Fuzz(func(_ *testing.T, value string) {
		_, _, _ = decodeRecord(uuid.Nil, value) // must not panic
		_, _ = decodeKnown(value)
		_, _ = decodeMeta(value)
		_, _ = parseToken(tokenPrefix + value)
	})
}

func TestToken_roundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := drawTime(t, "now")
		want := newToken(drawRef(t).agentRef, now)
		got, ok := parseToken(want.encode())
		require.True(t, ok)
		require.Equal(t, want, got)
		require.Equal(t, now.UnixMilli(), idTime(got.id).UnixMilli())
		require.Equal(t, uuid.Version(7), got.id.Version())
	})
}

func TestMember_roundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRef(t)
		got, ok := memberRef(want.account, want.member())
		require.True(t, ok)
		require.Equal(t, want, got)
		parsed, err := parseSession(want.String(), "name")
		require.NoError(t, err)
		require.Equal(t, want, parsed)
	})
}

func TestMeta_roundTrip(t *testing.T) {
	want := meta{epoch: 5, position: 7, born: time.UnixMilli(11), repaired: time.UnixMilli(0), generation: "abc"}
	got, err := decodeMeta(want.encode())
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, bad := range []string{"", ";;;;", "1;2;3;4", "1;-2;3;4;x", "x;2;3;4;g"} {
		_, err := decodeMeta(bad)
		require.Error(t, err, bad)
	}
}

func TestUserAgent_packed(t *testing.T) {
	p := newPacker()
	require.Less(t, len(p.pack.Replace(chrome)), 10)
	rapid.Check(t, func(t *rapid.T) {
		text := cleanText(rapid.String().Draw(t, "text")+rapid.SampledFrom(phrases()).Draw(t, "phrase")+rapid.String().Draw(t, "more"), 256)
		require.LessOrEqual(t, utf8.RuneCountInString(text), 256)
		require.Equal(t, text, p.unpack.Replace(p.pack.Replace(text)))
	})
}

// Whatever came after, what a policy had ended while it was in force stays ended,
// and memory of it is bounded.
func TestKnown_endedStaysEnded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1_700_000_000, 0).UTC()
		at := start
		k := (*known)(nil).next(enforcement.Policy{Revision: 1}, at, 30*24*time.Hour)
		session := enforcement.Session{
			Exempt: rapid.Bool().Draw(t, "exempt"), AssuranceLevel: enforcement.AAL1,
			CreateTime: start.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "created")) * time.Hour),
		}
		over := false
		policy := k.policy
		for range rapid.IntRange(1, 25).Draw(t, "changes") {
			at = at.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "hours")) * time.Hour)
			// Only reached deadlines are remembered without limit.
			if deadline := policy.SessionRevokeTime(); policy.Enforced && !at.Before(deadline) && session.CreateTime.Before(at) && !policy.Judge(session, at).Alive {
				over = true
			}
			policy, _ = policy.Change(enforcement.Settings{
				Enforced: rapid.Bool().Draw(t, "enforced"), ApplyToSSO: rapid.Bool().Draw(t, "sso"),
				GracePeriod: time.Duration(rapid.IntRange(0, 48).Draw(t, "grace")) * time.Hour,
			}, at)
			if policy.Revision == k.policy.Revision {
				continue
			}
			k = k.next(policy, at, 30*24*time.Hour)
			require.LessOrEqual(t, len(k.past), pastLimit)
			again, err := decodeKnown(k.encode())
			require.NoError(t, err)
			require.Equal(t, k.encode(), again.encode())
			k = again
			if over {
				require.False(t, k.judge(session, time.Time{}, at).Alive, "a session that was over lives again")
			} else if session.CreateTime.Before(at) && !policy.Enforced {
				// Never over without a policy that said so at some moment.
				require.True(t, k.judge(session, time.Time{}, at).Alive || len(k.past) > 0)
			}
		}
	})
}
