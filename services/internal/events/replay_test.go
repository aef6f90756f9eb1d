package events_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"

	"github.com/twofold-auth/twofold/services/internal/events"
)

func TestReplay_handsTheWantedPart(t *testing.T) {
	f := setUp(t)
	seqs := make([]uint64, 0, 600)
	for i := range 600 { // more than one batch
		e := enabled("acme", int64(i))
		if i%3 == 0 {
			e.Payload = &policyv1.EnforcementDisabled{Account: "acme"}
		}
		seqs = append(seqs, f.publish(t, e))
	}
	_, err := f.js.Publish(t.Context(), "twofold.policy.EnforcementEnabled.broken", []byte("x"))
	require.NoError(t, err)

	replay := func(from, to uint64) (versions []int64) {
		require.NoError(t, f.bus.Replay(t.Context(), from, to, enabledOnly, func(_ context.Context, d events.Delivery) error {
			versions = append(versions, d.Version)
			require.Equal(t, seqs[d.Version], d.StreamSequence)
			return nil
		}))
		return versions
	}
	require.Equal(t, []int64{10, 11, 13, 14, 16}, replay(seqs[10], seqs[17]-1))
	require.Equal(t, []int64{598, 599}, replay(seqs[597], 1<<40))
	require.Len(t, replay(0, seqs[599]), 400)
	require.Empty(t, replay(seqs[0], seqs[0]), "nothing wanted there")
	require.Empty(t, replay(1<<40, 1<<41))

	boom := errors.New("boom")
	err = f.bus.Replay(t.Context(), 0, seqs[599], enabledOnly, func(context.Context, events.Delivery) error { return boom })
	require.ErrorIs(t, err, boom)
	consumers := 0
	stream, err := f.js.Stream(t.Context(), events.Stream)
	require.NoError(t, err)
	for range stream.ConsumerNames(t.Context()).Name() {
		consumers++
	}
	require.Zero(t, consumers, "replays leave nothing behind")
}
