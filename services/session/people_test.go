package session

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// as is a context of the holder of a token.
func as(t *testing.T, token string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func names(sessions []*sessionv1.Session) []string {
	var out []string
	for _, s := range sessions {
		out = append(out, s.GetName())
	}
	return out
}

func TestPeople(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		c := newClock()
		r := newRig(t, p, c, quick())
		people := sessionv1.NewAgentSessionServiceClient(r.conn(""))
		for name, test := range map[string]func(*testing.T, *rig, sessionv1.AgentSessionServiceClient){
			"sign out": testSignOut, "own sessions": testMine, "admins": testAdmins, "pages": testPages,
		} {
			t.Run(name, func(t *testing.T) {
				r := *r
				r.t = t
				test(t, &r, people)
			})
		}
	})
}

func testSignOut(t *testing.T, r *rig, people sessionv1.AgentSessionServiceClient) {
	made := r.create(request(agent("out"), off("out", 1)))
	_, err := people.SignOut(as(t, made.GetToken()), &sessionv1.SignOutRequest{})
	require.NoError(t, err)
	r.over(made.GetToken(), errs.ReasonSessionRevoked)
	_, err = people.SignOut(as(t, made.GetToken()), &sessionv1.SignOutRequest{})
	requireReason(t, err, codes.Unauthenticated, errs.ReasonSessionRevoked)
	_, err = people.SignOut(t.Context(), &sessionv1.SignOutRequest{})
	requireReason(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
}

// neighbor is another agent of the account, whose sessions are in the same bucket.
func neighbor(t *testing.T, name string) string {
	t.Helper()
	mine, err := parseAgent(name, "")
	require.NoError(t, err)
	for {
		other, err := parseAgent(agent(mine.account), "")
		require.NoError(t, err)
		if other.bucket() == mine.bucket() {
			return other.String()
		}
	}
}

func testMine(t *testing.T, r *rig, people sessionv1.AgentSessionServiceClient) {
	req := request(agent("mine"), off("mine", 1))
	var made []*sessionv1.Session
	for range 4 {
		made = append(made, r.create(req))
		r.clock.Advance(time.Second)
	}
	foreign := r.create(request(neighbor(t, req.GetAgent()), off("mine", 1)))
	me := as(t, made[1].GetToken())
	list := func() []*sessionv1.Session {
		res, err := people.ListMySessions(me, &sessionv1.ListMySessionsRequest{})
		require.NoError(t, err)
		return res.GetSessions()
	}
	got := list()
	require.Equal(t, names([]*sessionv1.Session{made[3], made[2], made[1], made[0]}), names(got))
	for i, s := range got {
		require.Equal(t, i == 2, s.GetCurrent())
		require.Empty(t, s.GetToken())
	}
	revoke := func(name string) error {
		_, err := people.RevokeMySession(me, &sessionv1.RevokeMySessionRequest{Session: name[strings.LastIndex(name, "/")+1:]})
		return err
	}
	require.NoError(t, revoke(made[0].GetName()))
	r.over(made[0].GetToken(), errs.ReasonSessionRevoked)
	for _, name := range []string{made[0].GetName(), foreign.GetName(), "x"} {
		requireReason(t, revoke(name), codes.NotFound, errs.ReasonResourceNotFound)
	}
	r.stands(foreign.GetToken())
	res, err := people.RevokeMyOtherSessions(me, &sessionv1.RevokeMyOtherSessionsRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 2, res.GetRevoked())
	require.Equal(t, names(made[1:2]), names(list()))
}

func testAdmins(t *testing.T, r *rig, people sessionv1.AgentSessionServiceClient) {
	admin := request(agent("firm"), off("firm", 1))
	admin.Role = sessionv1.Session_ADMIN
	boss := r.create(admin)
	worker := r.create(request(agent("firm"), off("firm", 1)))
	stranger := request(agent("other"), off("other", 1))
	stranger.Role = sessionv1.Session_OWNER
	foreign := r.create(stranger)

	list := func(ctx context.Context, parent string) ([]*sessionv1.Session, error) {
		res, err := people.ListAgentSessions(ctx, &sessionv1.ListAgentSessionsRequest{Parent: parent})
		return res.GetSessions(), err
	}
	got, err := list(as(t, boss.GetToken()), worker.GetAgent())
	require.NoError(t, err)
	require.Equal(t, names([]*sessionv1.Session{worker}), names(got))
	got, err = list(as(t, boss.GetToken()), boss.GetAgent())
	require.NoError(t, err)
	require.True(t, got[0].GetCurrent())
	got, err = list(as(t, operatorToken), worker.GetAgent())
	require.NoError(t, err)
	require.Len(t, got, 1)
	_, err = list(as(t, worker.GetToken()), worker.GetAgent())
	requireReason(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	for _, parent := range []string{worker.GetAgent(), agent("firm"), "accounts/firm", "x"} {
		_, err = list(as(t, foreign.GetToken()), parent)
		requireReason(t, err, codes.NotFound, errs.ReasonResourceNotFound)
		_, err = people.RevokeAllAgentSessions(as(t, foreign.GetToken()), &sessionv1.RevokeAllAgentSessionsRequest{Parent: parent})
		requireReason(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	}
	r.stands(worker.GetToken())
	res, err := people.RevokeAllAgentSessions(as(t, boss.GetToken()), &sessionv1.RevokeAllAgentSessionsRequest{Parent: worker.GetAgent()})
	require.NoError(t, err)
	require.EqualValues(t, 1, res.GetRevoked())
	r.over(worker.GetToken(), errs.ReasonSessionRevoked)
	r.stands(boss.GetToken())
}

func testPages(t *testing.T, r *rig, people sessionv1.AgentSessionServiceClient) {
	req := request(agent("pages"), off("pages", 1))
	var want []string
	var last *sessionv1.Session
	for range 7 {
		last = r.create(req)
		want = append([]string{last.GetName()}, want...)
		r.clock.Advance(time.Millisecond)
	}
	me, token := as(t, last.GetToken()), ""
	var got []string
	for page := 0; page == 0 || token != ""; page++ {
		res, err := people.ListMySessions(me, &sessionv1.ListMySessionsRequest{PageSize: 3, PageToken: token})
		require.NoError(t, err)
		require.LessOrEqual(t, len(res.GetSessions()), 3)
		got = append(got, names(res.GetSessions())...)
		if token = res.GetNextPageToken(); page == 0 {
			_, err = people.ListAgentSessions(as(t, operatorToken), &sessionv1.ListAgentSessionsRequest{Parent: req.GetAgent(), PageToken: token})
			requireReason(t, err, codes.InvalidArgument, errs.ReasonInvalidPageToken)
		}
	}
	require.Equal(t, want, got)
}

// Who is not a service of the suite reaches none of the methods for services.
func TestServiceMethods_closedToPeople(t *testing.T) {
	r := newRig(t, miniPlace(t), newClock(), quick())
	made := r.create(request(agent("closed"), off("closed", 1)))
	for _, conn := range []*grpc.ClientConn{r.conn(""), r.conn("notifier")} {
		_, err := sessionv1.NewSessionServiceClient(conn).CreateSession(as(t, made.GetToken()), request(agent("closed"), off("closed", 1)))
		require.Error(t, err)
		require.Contains(t, []codes.Code{codes.Unauthenticated, codes.PermissionDenied}, codeOf(err))
	}
}
