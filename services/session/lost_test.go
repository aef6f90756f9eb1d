package session

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func miniPlace(t *testing.T) place {
	t.Helper()
	m := miniredis.RunT(t)
	return place{addrs: []string{m.Addr()}, nats: testkit.NATS(t).URL(), flush: m.FlushAll}
}

func codeOf(err error) codes.Code { return status.Code(err) }

// publish publishes an event as its service would, each call as a new message.
func (r *rig) publish(account string, version int64, payload proto.Message) {
	r.t.Helper()
	_, _, err := r.bus.Publish(r.t.Context(), events.Event{
		ID: uuid.NewString(), Source: "twofold/test", Subject: "accounts/" + account, Account: account,
		Version: version, Time: r.clock.Now(), Payload: payload,
	})
	require.NoError(r.t, err)
}

// waitApplied waits until every event in the stream has been applied.
func (r *rig) waitApplied() {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		p, err := r.bus.ConsumerPosition(r.t.Context(), durable)
		return err == nil && p.CaughtUp()
	}, 20*time.Second, 5*time.Millisecond)
}

func (r *rig) generation() string {
	r.t.Helper()
	res, err := sessionv1.NewSessionServiceClient(r.conn("policy")).GetStoreState(r.t.Context(), &sessionv1.GetStoreStateRequest{})
	require.NoError(r.t, err)
	return res.GetGeneration()
}

// never requires that a token that was revoked is refused, whatever the answer,
// until the store is confirmed again.
func (r *rig) neverUntilReady(token string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		_, err := r.validate(token)
		require.Error(r.t, err, "a revoked session came back")
		return r.svc.Ready(r.t.Context()) == nil
	}, 20*time.Second, time.Millisecond)
	_, err := r.validate(token)
	require.Error(r.t, err, "a revoked session came back")
}

// Policy asks at its own start, which is often ours too.
func TestGetStoreState_waitsForTheStart(t *testing.T) {
	r := newIdleRig(t, miniPlace(t), newClock(), quick())
	policy := sessionv1.NewSessionServiceClient(r.conn("policy"))
	_, err := policy.GetStoreState(t.Context(), &sessionv1.GetStoreStateRequest{})
	requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)

	answer := make(chan error, 1)
	go func() {
		_, err := policy.GetStoreState(t.Context(), &sessionv1.GetStoreStateRequest{})
		answer <- err
	}()
	r.start()
	require.NoError(t, <-answer)
}

// An empty store: sessions end and say why, nothing else does.
func TestStoreLost(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		r := newRig(t, p, newClock(), quick())
		alive := r.create(request(agent("lost"), off("lost", 1)))
		revoked := r.create(request(agent("lost"), off("lost", 1)))
		_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: revoked.GetName()})
		require.NoError(t, err)
		before := r.generation()
		require.Equal(t, before, r.generation())
		r.waitApplied()
		r.clock.Advance(time.Minute)

		p.flush()
		r.neverUntilReady(revoked.GetToken())
		r.over(alive.GetToken(), errs.ReasonSessionStoreLost)
		r.over(revoked.GetToken(), errs.ReasonSessionStoreLost)
		require.NotEqual(t, before, r.generation())

		r.clock.Advance(time.Minute)
		again := r.create(request(alive.GetAgent(), off("lost", 1)))
		r.stands(again.GetToken())
		unknown, _ := parseToken(again.GetToken())
		unknown.id = newID(r.clock.Now())
		r.over(unknown.encode(), errs.ReasonSessionUnknown)
	})
}

// A store that comes back older gets what it lacks before anything in it counts.
func TestStoreOlder(t *testing.T) {
	server := testkit.Redis(t)
	p := place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}
	r := newRig(t, p, newClock(), quick())
	a := agent("older")
	alive := r.create(request(agent("older"), off("older", 1)))
	signedOut := r.create(request(a, off("older", 1)))
	byVersion := r.create(request(agent("older"), off("older", 1)))
	byEvent := r.create(request(agent("older"), off("older", 1)))
	before := r.generation()
	server.Save(t)

	_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: signedOut.GetName()})
	require.NoError(t, err)
	_, err = r.auth.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{Agent: byVersion.GetAgent(), AgentVersion: 2})
	require.NoError(t, err)
	r.publish("older", 2, &authv1.MFAReset{Agent: byEvent.GetAgent(), AgentVersion: 2})
	lostToo := r.create(request(a, off("older", 1)))
	r.waitApplied()
	r.over(byEvent.GetToken(), errs.ReasonSessionRevoked)
	r.clock.Advance(time.Minute)

	server.Kill(t)
	_, err = r.validate(alive.GetToken())
	requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	server.Start(t)
	for _, s := range []*sessionv1.Session{signedOut, byVersion, byEvent} {
		r.neverUntilReady(s.GetToken())
	}
	for _, s := range []*sessionv1.Session{signedOut, byVersion, byEvent} {
		r.over(s.GetToken(), errs.ReasonSessionRevoked)
	}
	r.stands(alive.GetToken())
	r.over(lostToo.GetToken(), errs.ReasonSessionStoreLost)
	require.NotEqual(t, before, r.generation())
	_, err = r.auth.CreateSession(t.Context(), request(byEvent.GetAgent(), off("older", 1)))
	requireReason(t, err, codes.Aborted, errs.ReasonAgentVersionStale)
}

// A copy that starts beside a store that is older than what was revoked.
func TestStoreOlder_whileNoCopyRan(t *testing.T) {
	server := testkit.Redis(t)
	p := place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}
	c := newClock()
	first := newRig(t, p, c, quick())
	made := first.create(request(agent("asleep"), off("asleep", 1)))
	server.Save(t)
	_, err := first.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
	require.NoError(t, err)
	first.waitApplied()
	first.stop()
	server.Kill(t)
	server.Start(t)

	second := newIdleRig(t, p, c, quick())
	_, err = second.validate(made.GetToken())
	requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	second.start()
	second.neverUntilReady(made.GetToken())
	second.over(made.GetToken(), errs.ReasonSessionRevoked)
}

// asleep makes a session and an older store that has forgotten its revocation,
// while no copy runs.
func asleep(t *testing.T) (p place, c *clock, revoked *sessionv1.Session) {
	t.Helper()
	server := testkit.Redis(t)
	p, c = place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}, newClock()
	r := newRig(t, p, c, quick())
	revoked = r.create(request(agent("asleep"), off("asleep", 1)))
	server.Save(t)
	_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: revoked.GetName()})
	require.NoError(t, err)
	r.waitApplied()
	r.stop()
	server.Kill(t)
	server.Start(t)
	return p, c, revoked
}

// Between learning how far the store must be and the repair, nothing in it counts.
func TestStoreOlder_notBelieved(t *testing.T) {
	p, c, revoked := asleep(t)
	r := newIdleRig(t, p, c, quick())
	reached, err := r.svc.keeper.reached(t.Context())
	require.NoError(t, err)
	r.svc.store.floor.raise(reached)
	_, err = r.validate(revoked.GetToken())
	requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	_, err = r.auth.CreateSession(t.Context(), request(revoked.GetAgent(), off("asleep", 1)))
	requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	require.Error(t, r.svc.Ready(t.Context()))
	require.NoError(t, r.svc.keeper.repair(t.Context(), reached))
	r.over(revoked.GetToken(), errs.ReasonSessionRevoked)
	require.NoError(t, r.svc.Ready(t.Context()))
}

// The consumer does not paper over what the store lacks when the next event comes.
func TestStoreOlder_nextEvent(t *testing.T) {
	p, c, revoked := asleep(t)
	r := newIdleRig(t, p, c, quick())
	other := agent("asleep")
	r.publish("asleep", 2, &authv1.MFAReset{Agent: other, AgentVersion: 2})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.svc.events.run(ctx) }() // and no keeper
	r.waitApplied()
	cancel()
	require.NoError(t, <-done)
	r.over(revoked.GetToken(), errs.ReasonSessionRevoked)
	_, err := r.auth.CreateSession(t.Context(), request(other, off("asleep", 1)))
	requireReason(t, err, codes.Aborted, errs.ReasonAgentVersionStale)
}

// A copy that heard nothing of a revocation meets a Redis that forgot it: the new
// connection makes it ask.
func TestStoreOlder_idleCopy(t *testing.T) {
	server := testkit.Redis(t)
	p, c := place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}, newClock()
	busy := newRig(t, p, c, quick())
	idle := newIdleRig(t, p, c, quick())
	made := busy.create(request(agent("idle"), off("idle", 1)))
	require.NoError(t, idle.svc.keeper.round(t.Context()))
	idle.stands(made.GetToken())
	server.Save(t)
	_, err := busy.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
	require.NoError(t, err)
	// No waiting: the answer means that it can not be forgotten.
	server.Kill(t)
	busy.stop()
	server.Start(t)
	for range 20 {
		_, err = idle.validate(made.GetToken())
		requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	}
	require.NoError(t, idle.svc.keeper.round(t.Context()))
	idle.over(made.GetToken(), errs.ReasonSessionRevoked)
}

// The stream goes away: verdicts go on. It comes back empty: verdicts go on.
func TestStreamLost(t *testing.T) {
	stream := testkit.NATS(t)
	p := miniPlace(t)
	p.nats = stream.URL()
	r := newRig(t, p, newClock(), quick())
	made := r.create(request(agent("stream"), off("stream", 1)))
	r.waitApplied()
	stream.Stop(t)
	r.stands(made.GetToken())
	other := r.create(request(agent("stream"), off("stream", 1)))
	r.svc.cfg.PublishWait = 50 * time.Millisecond
	_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: other.GetName()})
	require.NoError(t, err)
	r.over(other.GetToken(), errs.ReasonSessionRevoked)
	stream.Start(t)
	r.waitApplied()
	r.waitReady()

	stream.Wipe(t)
	require.Eventually(t, func() bool {
		state, err := r.bus.StreamState(t.Context())
		at, ok := r.svc.store.floor.get()
		return err == nil && ok && at.epoch == state.Created.UnixMicro()
	}, 20*time.Second, 10*time.Millisecond)
	r.waitReady()
	r.stands(made.GetToken())
	r.over(other.GetToken(), errs.ReasonSessionRevoked)
	_, err = r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
	require.NoError(t, err)
	r.waitApplied()
	r.waitReady()
	r.over(made.GetToken(), errs.ReasonSessionRevoked)
}

// A Redis that hangs costs a verdict its budget, and gives no verdict.
func TestRedisHangs(t *testing.T) {
	server := testkit.Redis(t)
	r := newRig(t, place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}, newClock(), quick())
	made := r.create(request(agent("hangs"), off("hangs", 1)))
	r.stands(made.GetToken())
	before := runtime.NumGoroutine()
	server.Pause(t)
	begun := time.Now()
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			_, err := r.validate(made.GetToken())
			requireReason(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
		})
	}
	wait.Wait()
	require.Less(t, time.Since(begun), 5*time.Second)
	server.Resume(t)
	require.Eventually(t, func() bool { _, err := r.validate(made.GetToken()); return err == nil }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+30 }, 10*time.Second, 20*time.Millisecond)
}

// A Redis that may evict would forget revocations.
func TestEvictingRedis_notReady(t *testing.T) {
	server := testkit.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	r := newIdleRig(t, place{addrs: []string{server.Addr()}, nats: testkit.NATS(t).URL()}, newClock(), quick())
	require.ErrorContains(t, r.svc.Ready(t.Context()), "noeviction")
}
