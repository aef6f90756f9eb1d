package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
)

// policyOf is the policy of an event as the policy service would publish it.
func policyEvent(e *sessionv1.Enforcement, saved time.Time) *policyv1.MfaPolicy {
	return &policyv1.MfaPolicy{
		Name: "accounts/" + e.GetAccount() + "/mfaPolicy", Enforced: e.GetEnforced(), GracePeriod: e.GetGracePeriod(),
		Revision: e.GetRevision(), EnforceTime: e.GetEnforceTime(), UpdateTime: timestamppb.New(saved),
	}
}

func TestEvents_end(t *testing.T) {
	r := newRig(t, miniPlace(t), newClock(), quick())
	const account = "events"
	sessions := make([]*sessionv1.Session, 9)
	for i := range sessions {
		req := request(agent(account), off(account, 1))
		req.KeepMeLoggedIn = true
		sessions[i] = r.create(req)
	}
	second := r.create(request(sessions[0].GetAgent(), off(account, 1)))
	r.publish(account, 2, &authv1.MFAEnrolled{Agent: sessions[0].GetAgent(), AgentVersion: 2, KeepSession: sessions[0].GetName()})
	r.publish(account, 2, &authv1.MFAReset{Agent: sessions[1].GetAgent(), AgentVersion: 2})
	r.publish(account, 2, &authv1.FactorRemoved{Agent: sessions[2].GetAgent(), AgentVersion: 2})
	kept := r.create(request(sessions[6].GetAgent(), off(account, 1)))
	r.publish(account, 2, &authv1.PasswordChanged{Agent: sessions[6].GetAgent(), AgentVersion: 2, KeepSession: kept.GetName()})
	strong := request(agent(account), off(account, 1))
	strong.AssuranceLevel = sessionv1.Session_AAL2
	lowered := r.create(strong)
	r.publish(account, 2, &authv1.FactorRemoved{Agent: strong.GetAgent(), AgentVersion: 2, KeepSession: lowered.GetName(), Last: true, RemoveTime: timestamppb.New(r.clock.Now())})
	r.publish(account, 2, &authv1.RoleChanged{Agent: sessions[7].GetAgent(), AgentVersion: 2})
	r.publish(account, 2, &authv1.AgentDeactivated{Agent: sessions[8].GetAgent(), AgentVersion: 2})
	// One that makes no sense holds nothing up.
	r.publish(account, 2, &authv1.MFAReset{Agent: "accounts/events/agents/nobody", AgentVersion: 2})
	r.publish(account, 2, &policyv1.EnforcementEnabled{Account: account, Policy: policyEvent(on(account, 2, r.clock.Now().Add(time.Second), time.Hour), r.clock.Now())})
	r.waitApplied()
	r.waitReady()

	r.stands(sessions[0].GetToken())
	r.over(second.GetToken(), errs.ReasonSessionRevoked)
	r.over(sessions[1].GetToken(), errs.ReasonSessionRevoked)
	r.over(sessions[2].GetToken(), errs.ReasonSessionRevoked)
	r.stands(kept.GetToken())
	require.Equal(t, sessionv1.Session_AAL1, r.stands(lowered.GetToken()).GetAssuranceLevel())
	for _, s := range sessions[6:] {
		r.over(s.GetToken(), errs.ReasonSessionRevoked)
	}
	require.NotNil(t, r.stands(sessions[3].GetToken()).GetPolicyRevokeTime())
	r.waitSwept() // the agents' entries were due at once
	for _, s := range []*sessionv1.Session{second, sessions[1], sessions[2], sessions[6], sessions[7], sessions[8]} {
		ref, err := parseSession(s.GetName(), "")
		require.NoError(t, err)
		value, err := r.svc.db.Get(t.Context(), ref.key()).Result()
		require.NoError(t, err)
		require.Equal(t, byte(tombstoneMark), value[0])
	}
	r.clock.Advance(time.Hour + time.Second)
	r.over(sessions[3].GetToken(), errs.ReasonSessionEndedByMFAPolicy)
}

// A reset that is delivered again after the agent set up a new factor ends nothing
// that came after it.
func TestEvents_lateDuplicate(t *testing.T) {
	r := newRig(t, miniPlace(t), newClock(), quick())
	req := request(agent("again"), off("again", 1))
	old := r.create(req)
	reset := &authv1.MFAReset{Agent: req.GetAgent(), AgentVersion: 2}
	r.publish("again", 2, reset)
	r.waitApplied()
	r.over(old.GetToken(), errs.ReasonSessionRevoked)
	req.AgentVersion = 3
	fresh := r.create(req)
	r.publish("again", 3, &authv1.MFAEnrolled{Agent: req.GetAgent(), AgentVersion: 3, KeepSession: fresh.GetName()})
	for range 20 {
		r.publish("again", 2, reset)
	}
	r.waitApplied()
	r.waitSwept()
	r.stands(fresh.GetToken())
}

// Whatever the order and repetition in which three revisions arrive, the newest
// decides, and nothing older fires.
func TestEnforcement_anyOrder(t *testing.T) {
	r := newIdleRig(t, miniPlace(t), newClock(), quick())
	require.NoError(t, r.bus.EnsureStreams(t.Context()))
	state, err := r.bus.StreamState(t.Context())
	require.NoError(t, err)
	at := mark{epoch: state.Created.UnixMicro()}
	require.NoError(t, r.svc.keeper.repair(t.Context(), at))
	r.svc.store.floor.raise(at)

	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		account := fmt.Sprintf("order-%d", n)
		start := r.clock.Now()
		req := request(agent(account), off(account, 1))
		req.KeepMeLoggedIn = true
		res, err := r.auth.CreateSession(t.Context(), req)
		require.NoError(rt, err)
		token := res.GetSession().GetToken()

		const grace = 24 * time.Hour
		revisions := []proto.Message{
			&policyv1.EnforcementEnabled{Account: account, Policy: policyEvent(on(account, 2, start.Add(time.Second), grace), start.Add(time.Second))},
			&policyv1.EnforcementDisabled{Account: account, Policy: policyEvent(off(account, 3), start.Add(2*time.Second))},
			&policyv1.EnforcementEnabled{Account: account, Policy: policyEvent(on(account, 4, start.Add(3*time.Second), grace), start.Add(3*time.Second))},
		}
		order := rapid.Permutation([]int{0, 1, 2}).Draw(rt, "order")
		order = append(order, rapid.SliceOfN(rapid.IntRange(0, 2), 0, 4).Draw(rt, "repeated")...)
		for _, i := range order {
			if i == 1 && rapid.Bool().Draw(rt, "by call") {
				e := off(account, 3)
				e.UpdateTime = timestamppb.New(start.Add(2 * time.Second))
				got, err := r.svc.cfg.read(e, r.clock.Now())
				require.NoError(rt, err)
				_, err = r.svc.store.apply(t.Context(), got)
				require.NoError(rt, err)
				continue
			}
			require.NoError(rt, r.svc.events.apply(t.Context(), events.Delivery{Event: events.Event{Payload: revisions[i]}}))
		}
		for bucket := range buckets {
			values, err := r.svc.store.getAll(t.Context(), []string{enforcementKey(bucket, account)})
			require.NoError(rt, err)
			k, err := decodeKnown(*values[0])
			require.NoError(rt, err)
			require.EqualValues(rt, 4, k.policy.Revision)
		}
		due, err := r.svc.store.entries(t.Context(), nil)
		require.NoError(rt, err)
		require.Empty(rt, due)
		score, err := r.svc.db.ZScore(t.Context(), dueKey, account).Result()
		require.NoError(rt, err)
		require.Equal(rt, start.Add(3*time.Second+grace).UnixMilli(), int64(score))

		r.clock.Advance(grace + 3*time.Second - time.Microsecond)
		_, err = r.validate(token)
		require.NoError(rt, err)
		r.clock.Advance(time.Microsecond)
		_, err = r.validate(token)
		require.Equal(rt, errs.ReasonSessionEndedByMFAPolicy, errs.ReasonOf(err))
	})
}

// collect returns the names that SessionsRevoked events told, and the largest of
// them.
func (r *rig) collect() (told []string, largest int) {
	r.t.Helper()
	state, err := r.bus.StreamState(r.t.Context())
	require.NoError(r.t, err)
	require.NoError(r.t, r.bus.Replay(r.t.Context(), 1, state.LastSeq, []proto.Message{&sessionv1.SessionsRevoked{}},
		func(_ context.Context, d events.Delivery) error {
			e := d.Payload.(*sessionv1.SessionsRevoked)
			told = append(told, e.GetSessions()...)
			largest = max(largest, len(e.GetSessions()))
			return nil
		}))
	return told, largest
}

// A copy that dies in the middle of a sweep is continued by another; every session
// is told once.
func TestSweep_continued(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		c := newClock()
		cfg := quick()
		cfg.SweepBatch, cfg.SweepEvery = 3, time.Hour
		first := newRig(t, p, c, cfg)
		const account, count = "sweep", 300
		var want []string
		var tokens []string
		var mu sync.Mutex
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range count / 4 {
					req := request(agent(account), off(account, 1))
					req.KeepMeLoggedIn = true
					made := first.create(req)
					mu.Lock()
					want, tokens = append(want, made.GetName()), append(tokens, made.GetToken())
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		strong := request(agent(account), off(account, 1))
		strong.AssuranceLevel = sessionv1.Session_AAL2
		spared := first.create(strong)
		first.apply(on(account, 2, c.Now().Add(time.Second), time.Hour))
		c.Advance(time.Hour + 3*time.Second)
		require.NoError(t, first.svc.sweeper.round(t.Context()))
		require.Zero(t, first.sweptSoFar(account), "some seconds after the deadline")
		c.Advance(4 * time.Second)

		// In the middle of it, between any two commands.
		ctx, cancel := context.WithCancel(t.Context())
		var ended atomic.Int64
		first.svc.sweeper.swept = func(n int64) {
			if ended.Add(n) > count/3 {
				cancel()
			}
		}
		require.Error(t, first.svc.sweeper.round(ctx))
		first.stop()
		require.Less(t, int(ended.Load()), count)

		// A copy that ends gives its lease back, so that another goes on at once; one
		// that is killed right then cannot.
		due, err := first.svc.store.dueBy(t.Context(), c.Now(), 10)
		require.NoError(t, err)
		require.Len(t, due, 1)
		claimed, err := first.svc.store.claim(t.Context(), due[0], c.Now(), c.Now(), "killed")
		require.NoError(t, err)
		require.True(t, claimed, "the first copy still holds its lease")

		second := newIdleRig(t, p, c, cfg)
		second.start()
		second.waitReady()
		require.NoError(t, second.svc.sweeper.round(t.Context()))
		require.Less(t, int(second.sweptSoFar(account)), count, "the lease of the killed copy holds")
		c.Advance(16 * time.Second)
		require.Eventually(t, func() bool {
			require.NoError(t, second.svc.sweeper.round(t.Context()))
			due, err := second.svc.store.dueBy(t.Context(), c.Now(), 10)
			return err == nil && len(due) == 0
		}, 20*time.Second, 10*time.Millisecond)
		require.Eventually(t, func() bool { told, _ := second.collect(); return len(told) >= count }, 10*time.Second, 20*time.Millisecond)
		told, largest := second.collect()
		slices.Sort(told)
		slices.Sort(want)
		require.Equal(t, want, told)
		require.LessOrEqual(t, largest, 3)
		for _, token := range tokens[:10] {
			second.over(token, errs.ReasonSessionEndedByMFAPolicy)
		}
		second.stands(spared.GetToken())
	})
}

// sweptSoFar is how many of an account's sessions at AAL1 are gone from the indexes.
func (r *rig) sweptSoFar(account string) int64 {
	r.t.Helper()
	n, err := r.svc.db.HGet(r.t.Context(), scheduleKey(account), "n").Int64()
	if isNil(err) {
		return 0
	}
	require.NoError(r.t, err)
	return n
}

// Enforcement that is switched off before the deadline, or moved, ends nothing: not
// even when the sweep is late.
func TestSweep_cancelledAndMoved(t *testing.T) {
	r := newRig(t, miniPlace(t), newClock(), quick())
	accounts := []string{"cancelled", "moved"}
	var tokens []string
	for _, account := range accounts {
		req := request(agent(account), off(account, 1))
		req.KeepMeLoggedIn = true
		tokens = append(tokens, r.create(req).GetToken())
	}
	since := r.clock.Now().Add(time.Second)
	for _, account := range accounts {
		r.apply(on(account, 2, since, time.Hour))
	}
	gateway := sessionv1.NewSessionServiceClient(r.conn("gateway"))
	list := func(size int32, token string) *sessionv1.ListScheduledRevocationsResponse {
		res, err := gateway.ListScheduledRevocations(t.Context(), &sessionv1.ListScheduledRevocationsRequest{PageSize: size, PageToken: token})
		require.NoError(t, err)
		return res
	}
	page := list(1, "")
	require.Equal(t, "accounts/cancelled", page.GetScheduledRevocations()[0].GetSubject())
	require.Equal(t, since.Add(time.Hour).Truncate(time.Millisecond), page.GetScheduledRevocations()[0].GetDueTime().AsTime())
	page = list(1, page.GetNextPageToken())
	require.Equal(t, "accounts/moved", page.GetScheduledRevocations()[0].GetSubject())
	require.Empty(t, page.GetNextPageToken())

	r.clock.Advance(time.Hour)
	e := off("cancelled", 3)
	e.UpdateTime = timestamppb.New(r.clock.Now())
	r.apply(e)
	m := on("moved", 3, since, 2*time.Hour)
	m.GracePeriod, m.UpdateTime = durationpb.New(2*time.Hour), timestamppb.New(r.clock.Now())
	r.apply(m)
	r.clock.Advance(30 * time.Minute)
	require.NoError(t, r.svc.sweeper.round(t.Context()))
	for _, token := range tokens {
		r.stands(token)
	}
	require.Len(t, list(0, "").GetScheduledRevocations(), 1)
	r.clock.Advance(time.Hour)
	r.waitSwept()
	r.stands(tokens[0])
	r.over(tokens[1], errs.ReasonSessionEndedByMFAPolicy)
}

// An entry that was moved after it was seen to be due is not claimed.
func TestClaim_moved(t *testing.T) {
	r := newIdleRig(t, miniPlace(t), newClock(), quick())
	now := r.clock.Now()
	require.NoError(t, r.svc.store.schedule(t.Context(), "claim", 1, now.Add(-time.Minute)))
	due, err := r.svc.store.dueBy(t.Context(), now, 1)
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.NoError(t, r.svc.store.schedule(t.Context(), "claim", 2, now.Add(time.Minute)))
	claimed, err := r.svc.store.claim(t.Context(), due[0], now, now, "me")
	require.NoError(t, err)
	require.False(t, claimed)
	later := now.Add(time.Hour)
	for _, owner := range []string{"me", "you"} {
		claimed, err = r.svc.store.claim(t.Context(), due[0], later, later, owner)
		require.NoError(t, err)
		require.Equal(t, owner == "me", claimed)
	}
	ours, err := r.svc.store.progress(t.Context(), due[0], 1, false, later, "me")
	require.NoError(t, err)
	require.False(t, ours, "the entry is of another version now")
}

// A clock that jumps past a deadline ends nothing for good, and verdicts follow it
// back.
func TestSweep_clockJump(t *testing.T) {
	cfg := quick()
	cfg.SweepEvery = time.Hour
	r := newIdleRig(t, miniPlace(t), newClock(), cfg)
	steady := time.Duration(0)
	r.svc.sweeper.steady = func() time.Duration { return steady }
	r.start()
	r.waitReady()
	req := request(agent("jump"), off("jump", 1))
	req.KeepMeLoggedIn = true
	made := r.create(req)
	r.apply(on("jump", 2, r.clock.Now().Add(time.Second), 7*24*time.Hour))
	require.NoError(t, r.svc.sweeper.round(t.Context()))

	r.clock.Advance(8 * 24 * time.Hour) // and steady stays
	require.NoError(t, r.svc.sweeper.round(t.Context()))
	r.over(made.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	r.clock.Advance(-8 * 24 * time.Hour)
	require.NoError(t, r.svc.sweeper.round(t.Context()))
	r.stands(made.GetToken())

	for range 8 * 24 { // now for real
		r.clock.Advance(time.Hour)
		steady += time.Hour
		require.NoError(t, r.svc.sweeper.round(t.Context()))
	}
	r.waitSwept()
	require.EqualValues(t, 1, r.sweptSoFar("jump"))
}

// Verdicts of two copies agree at once, and a token never comes back.
func TestRevoked_neverAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		c := newClock()
		one, two := newRig(t, p, c, quick()), newRig(t, p, c, quick())
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range 15 {
					made := one.create(request(agent("never"), off("never", 1)))
					two.stands(made.GetToken())
					_, err := one.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
					require.NoError(t, err)
					for range 5 {
						_, err = two.validate(made.GetToken())
						require.Error(t, err)
						require.NotContains(t, err.Error(), "UNKNOWN")
					}
				}
			})
		}
		wait.Wait()
		require.Eventually(t, func() bool { told, _ := one.collect(); return len(told) == 60 }, 10*time.Second, 20*time.Millisecond)
	})
}

// What is stored says nothing that opens a door.
func TestStore_holdsNoSecret(t *testing.T) {
	m := miniPlace(t)
	r := newRig(t, m, newClock(), quick())
	made := r.create(request(agent("dump"), off("dump", 1)))
	parsed, _ := parseToken(made.GetToken())
	keys, err := r.svc.db.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	var dump strings.Builder
	for _, key := range keys {
		if value, err := r.svc.db.Get(t.Context(), key).Result(); err == nil {
			dump.WriteString(key + value)
		}
	}
	require.Contains(t, dump.String(), "dump")
	require.NotContains(t, dump.String(), string(parsed.secret[:]))
}
