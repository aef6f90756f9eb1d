package policy_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestEvents_asConsumersSeeThem(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.background()
		p.create("acme")
		p.update(admin, grace(2*week)) // concerns nobody yet
		on := p.update(admin, enforced(true))
		p.update(admin, enforced(true)) // no change
		moved := p.update(operatorToken, grace(time.Hour))
		off := p.update(plainAdmin, enforced(false))

		all := s.published(3)
		who := &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: "accounts/acme/agents/" + adminID}

		requireEvent(t, all[0], on, &policyv1.EnforcementEnabled{Account: "acme", Policy: on, Actor: who})
		requireEvent(t, all[1], moved, &policyv1.EnforcementUpdated{
			Account: "acme", Policy: moved, PreviousSessionRevokeTime: on.GetSessionRevokeTime(),
			Actor: &eventv1.Actor{Kind: eventv1.Actor_OPERATOR},
		})
		requireEvent(t, all[2], off, &policyv1.EnforcementDisabled{
			Account: "acme", Policy: off, Actor: who,
			PreviousEnforceTime: on.GetEnforceTime(), PreviousSessionRevokeTime: moved.GetSessionRevokeTime(),
		})
	})
}

// Publishing follows the commit and not the relay's next look at the table, once a
// second.
func TestEvents_publishedAtOnce(t *testing.T) {
	const changes = 8
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.background()
	p.create("acme")
	p.update(admin, enforced(true))
	s.published(1)
	started := time.Now()
	for i := range changes {
		p.update(admin, enforced(i%2 == 1))
		s.published(i + 2)
	}
	require.Less(t, time.Since(started), changes*time.Second/2)
}

func requireEvent(t *testing.T, msg jetstream.Msg, saved *policyv1.MfaPolicy, want proto.Message) {
	t.Helper()
	name := want.ProtoReflect().Descriptor().FullName()
	require.Equal(t, "twofold.policy."+string(name.Name())+".acme", msg.Subject())
	headers := msg.Headers()
	require.NotEmpty(t, headers.Get("ce-id"))
	for header, value := range map[string]string{
		"ce-specversion":      "1.0",
		"ce-type":             string(name),
		"ce-source":           "twofold/policy",
		"ce-subject":          acme,
		"ce-time":             saved.GetUpdateTime().AsTime().Format(time.RFC3339Nano),
		"ce-aggregateversion": strconv.FormatInt(saved.GetRevision(), 10),
		"content-type":        "application/protobuf",
		"Nats-Msg-Id":         headers.Get("ce-id"),
	} {
		require.Equal(t, value, headers.Get(header), header)
	}
	got := want.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(msg.Data(), got))
	requireSame(t, want, got)
}

// The process ends between the commit and the publication, in each of the ways
// in which it can: before anything was sent, and with NATS away.
func TestEvents_killedBetweenCommitAndPublish_publishedAfterRestart(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		killed := s.start() // its relay never runs
		killed.create("acme")
		on := killed.update(admin, enforced(true))
		off := killed.update(admin, enforced(false))
		require.Empty(t, s.stream())
		killed.stop()

		restarted := s.start()
		restarted.background()
		all := s.published(2)
		require.Equal(t, "twofold.policy.EnforcementEnabled.acme", all[0].Subject())
		require.Equal(t, "twofold.policy.EnforcementDisabled.acme", all[1].Subject())
		require.Equal(t, on.GetUpdateTime().AsTime().Format(time.RFC3339Nano), all[0].Headers().Get("ce-time"))
		require.Equal(t, off.GetUpdateTime().AsTime().Format(time.RFC3339Nano), all[1].Headers().Get("ce-time"))

		// Another restart has nothing to say.
		restarted.stop()
		last := s.start()
		last.background()
		last.update(admin, enforced(true))
		s.published(3)
	})
}

func TestUpdate_withoutNATS_savedAndPublishedLater(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.background()
	p.create("acme")
	require.True(t, p.update(admin, enforced(true)).GetEnforced())
	s.published(1)
	s.nats.Stop(t)
	require.False(t, p.update(admin, enforced(false)).GetEnforced())
	s.nats.Start(t)
	s.published(2)
}

// The event is the guarantee when the session service is away, slow or broken.
func TestUpdate_withoutSessionService_answersInTime(t *testing.T) {
	var shortest atomic.Int64 // time that the session service had
	note := func(ctx context.Context) {
		if deadline, ok := ctx.Deadline(); ok {
			shortest.Store(min(shortest.Load(), int64(time.Until(deadline))))
		}
	}
	hang := func(ctx context.Context, _ string) error {
		note(ctx)
		<-ctx.Done()
		return ctx.Err()
	}
	refuse := func(ctx context.Context, _ string) error {
		note(ctx)
		return status.Error(codes.Unavailable, "away")
	}
	for name, answer := range map[string]func(context.Context, string) error{"hangs": hang, "away": refuse} {
		t.Run(name, func(t *testing.T) {
			s := newSuite(t, testkit.SQLite(t))
			p := s.start()
			p.background()
			p.create("acme")
			s.sessions.answers(answer)
			shortest.Store(int64(time.Hour))

			started := time.Now()
			require.True(t, p.update(admin, enforced(true)).GetEnforced())
			require.Less(t, time.Since(started), 5*time.Second)

			// A caller in a hurry still gets its answer: half of its time is for that.
			ctx, cancel := context.WithTimeout(with(t.Context(), admin), 1600*time.Millisecond)
			defer cancel()
			resp, err := p.people().UpdateMfaPolicy(ctx, grace(time.Hour))
			require.NoError(t, err)
			require.EqualValues(t, 3, resp.GetMfaPolicy().GetRevision())
			require.LessOrEqual(t, time.Duration(shortest.Load()), 800*time.Millisecond)
			s.published(2)
		})
	}
}
