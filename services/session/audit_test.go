package session

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/events"
)

// forLog returns the events, in their order, that the audit log is made of.
func (r *rig) forLog() (found []proto.Message) {
	r.t.Helper()
	state, err := r.bus.StreamState(r.t.Context())
	require.NoError(r.t, err)
	wanted := []proto.Message{&sessionv1.SessionsRevoked{}, &sessionv1.RevocationRefused{}}
	require.NoError(r.t, r.bus.Replay(r.t.Context(), 1, state.LastSeq, wanted, func(_ context.Context, d events.Delivery) error {
		if e, ok := d.Payload.(*sessionv1.SessionsRevoked); !ok || e.GetOrigin() != nil {
			require.Equal(r.t, "firm", d.Account)
			found = append(found, d.Payload)
		}
		return nil
	}))
	return found
}

// Auth is told who ended the sessions of whom, and of who may not; of nothing else
// that ends sessions.
func TestAudit_revocationsAreTold(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		c := newClock()
		cfg := quick()
		cfg.SweepBatch = 2
		r := newRig(t, p, c, cfg)
		people := sessionv1.NewAgentSessionServiceClient(r.conn("gateway"))
		admin := request(agent("firm"), off("firm", 1))
		admin.Role = sessionv1.Session_ADMIN
		boss := r.create(admin)
		of := request(agent("firm"), off("firm", 1))
		worker := r.create(of)
		stranger := r.create(request(agent("firm"), off("firm", 1)))
		foreign := agent("other")
		revoke := func(token, whom string) error {
			ctx := metadata.AppendToOutgoingContext(as(t, token), authz.RequestIDKey, "req-1", authz.ClientAddressKey, "203.0.113.9")
			_, err := people.RevokeAllAgentSessions(ctx, &sessionv1.RevokeAllAgentSessionsRequest{Parent: whom})
			return err
		}
		told := func(n int) []proto.Message {
			t.Helper()
			require.Eventually(t, func() bool { return len(r.forLog()) >= n }, 20*time.Second, 10*time.Millisecond)
			found := r.forLog()
			require.Len(t, found, n)
			return found
		}
		refused := func(e proto.Message, reason, subject, actor string) {
			t.Helper()
			refusal, ok := e.(*sessionv1.RevocationRefused)
			require.Truef(t, ok, "%v", e)
			require.Equal(t, "firm", refusal.GetAccount())
			require.Equal(t, reason, refusal.GetErrorReason())
			require.Equal(t, subject, refusal.GetSubject())
			require.Equal(t, "req-1", refusal.GetOrigin().GetRequestId())
			require.Equal(t, "203.0.113.9", refusal.GetOrigin().GetClientAddress())
			require.Equal(t, c.Now().UnixMicro(), refusal.GetRefuseTime().AsTime().UnixMicro())
			require.True(t, proto.Equal(&eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: actor}, refusal.GetOrigin().GetActor()))
		}

		require.Error(t, revoke(worker.GetToken(), boss.GetAgent()))
		require.Error(t, revoke(boss.GetToken(), foreign))
		require.Error(t, revoke(boss.GetToken(), "my password"))
		found := told(3)
		refused(found[0], errs.ReasonCallerNotPermitted, boss.GetAgent(), worker.GetAgent())
		refused(found[1], errs.ReasonResourceNotFound, foreign, boss.GetAgent())
		refused(found[2], errs.ReasonResourceNotFound, "", boss.GetAgent())

		// Not by an admin, or not a change of the sessions.
		_, err := people.SignOut(as(t, stranger.GetToken()), &sessionv1.SignOutRequest{})
		require.NoError(t, err)
		r.create(of)
		_, err = people.RevokeMyOtherSessions(as(t, worker.GetToken()), &sessionv1.RevokeMyOtherSessionsRequest{})
		require.NoError(t, err)
		require.NoError(t, revoke(boss.GetToken(), agent("firm")))

		for range 2 {
			r.create(of)
		}
		require.NoError(t, revoke(boss.GetToken(), of.GetAgent()))
		r.over(worker.GetToken(), errs.ReasonSessionRevoked)
		require.NoError(t, revoke(boss.GetToken(), of.GetAgent()), "again, when there are none")
		r.create(of)
		require.NoError(t, revoke(operatorToken, of.GetAgent()))
		found = told(6)
		var sizes []int
		for i, e := range found[3:] {
			revoked, ok := e.(*sessionv1.SessionsRevoked)
			require.Truef(t, ok, "%v", e)
			sizes = append(sizes, len(revoked.GetSessions()))
			want := &eventv1.Origin{
				Actor:         &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: boss.GetAgent()},
				ClientAddress: "203.0.113.9", RequestId: "req-1",
			}
			if i == 2 {
				want.Actor = &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}
			}
			require.Truef(t, proto.Equal(want, revoked.GetOrigin()), "%v", revoked.GetOrigin())
			for _, name := range revoked.GetSessions() {
				require.Contains(t, name, of.GetAgent()+"/sessions/")
			}
		}
		require.Equal(t, []int{2, 1, 1}, sizes)
	})
}
