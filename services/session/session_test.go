package session

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// The life of sessions, through the real door, on every kind of store.
func TestSessions(t *testing.T) {
	eachStore(t, func(t *testing.T, p place) {
		c := newClock()
		r := newRig(t, p, c, quick())
		for name, test := range map[string]func(*testing.T, *rig){
			"create and validate":        testCreate,
			"limits":                     testLimits,
			"tokens nobody gave out":     testForgedTokens,
			"revoke one":                 testRevoke,
			"revoke below a version":     testRevokeAgent,
			"reissue":                    testReissue,
			"lower the one that stays":   testLower,
			"lower after an enforcement": testLowerAfterwards,
			"enforcement":                testEnforcement,
			"what was ended stays so":    testEndedStays,
			"stale sign-ins":             testStale,
			"count":                      testCount,
		} {
			// One clock: the tests take turns.
			t.Run(name, func(t *testing.T) {
				r := *r
				r.t = t
				test(t, &r)
			})
		}
	})
}

func testCreate(t *testing.T, r *rig) {
	a := agent("create")
	made := r.create(request(a, off("create", 1)))
	require.True(t, strings.HasPrefix(made.GetToken(), "tfs1_"))
	got := r.stands(made.GetToken())
	require.Empty(t, got.GetToken())
	require.Equal(t, a, got.GetAgent())
	require.True(t, strings.HasPrefix(got.GetName(), a+"/sessions/"))
	require.Equal(t, chrome, got.GetClient().GetUserAgent())
	require.Equal(t, "203.0.113.9", got.GetClient().GetAddress())
	require.Equal(t, r.clock.Now(), got.GetCreateTime().AsTime())
	require.Equal(t, r.clock.Now().Add(30*24*time.Hour).Unix(), got.GetExpireTime().AsTime().Unix())
	require.Nil(t, got.GetPolicyRevokeTime())
	require.Nil(t, got.GetFactorVerifyTime())
	made.Token = ""
	require.Equal(t, made.String(), got.String())
}

func testLimits(t *testing.T, r *rig) {
	req := request(agent("limits"), off("limits", 1))
	short := r.create(req)
	used := r.create(req)
	req.KeepMeLoggedIn = true
	kept := r.create(req)

	r.clock.Advance(12*time.Hour - time.Second)
	r.stands(short.GetToken())
	_, err := r.auth.ValidateSession(t.Context(), &sessionv1.ValidateSessionRequest{Token: used.GetToken(), Touch: true})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return r.stands(used.GetToken()).GetLastSeenTime().AsTime().Equal(r.clock.Now().Truncate(time.Minute))
	}, 5*time.Second, 5*time.Millisecond)
	r.clock.Advance(time.Second)
	r.over(short.GetToken(), errs.ReasonSessionExpired)
	r.stands(used.GetToken())
	r.stands(kept.GetToken())
	r.clock.Advance(12 * time.Hour)
	r.over(used.GetToken(), errs.ReasonSessionExpired)
	r.stands(kept.GetToken())
	r.clock.Advance(29*24*time.Hour - time.Second)
	r.stands(kept.GetToken())
	r.clock.Advance(time.Second)
	r.over(kept.GetToken(), errs.ReasonSessionExpired)
}

func testForgedTokens(t *testing.T, r *rig) {
	made := r.create(request(agent("forged"), off("forged", 1)))
	good, ok := parseToken(made.GetToken())
	require.True(t, ok)
	secret := good
	secret.secret[0] ^= 1
	foreign := good
	foreign.account = "forger"
	neighbor := good
	neighbor.agent[3] ^= 1
	for name, text := range map[string]string{
		"empty": "", "prefix alone": tokenPrefix, "no prefix": strings.TrimPrefix(made.GetToken(), tokenPrefix),
		"a sign-in token": "tfi1_" + strings.TrimPrefix(made.GetToken(), tokenPrefix),
		"line break":      made.GetToken() + "\n", "cut": made.GetToken()[:40], "longer": made.GetToken() + "AA",
		"other secret": secret.encode(), "other account": foreign.encode(), "other agent": neighbor.encode(),
	} {
		_, err := r.validate(text)
		require.Error(t, err, name)
		requireReason(t, err, codes.Unauthenticated, errs.ReasonSessionUnknown)
	}
	// Not even that it was ended is told to who does not hold it.
	_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
	require.NoError(t, err)
	r.over(secret.encode(), errs.ReasonSessionUnknown)
	r.over(made.GetToken(), errs.ReasonSessionRevoked)
}

func testRevoke(t *testing.T, r *rig) {
	made := r.create(request(agent("revoke"), off("revoke", 1)))
	other := r.create(request(made.GetAgent(), off("revoke", 1)))
	for range 2 {
		_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: made.GetName()})
		require.NoError(t, err)
		r.over(made.GetToken(), errs.ReasonSessionRevoked)
	}
	r.stands(other.GetToken())
	for _, bad := range []string{"x", made.GetAgent(), made.GetName() + "/x", strings.ToUpper(made.GetName()), strings.Replace(made.GetName(), "revoke", "Revoke", 1)} {
		_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: bad})
		requireReason(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
}

func testRevokeAgent(t *testing.T, r *rig) {
	a := agent("agents")
	first, second := r.create(request(a, off("agents", 1))), r.create(request(a, off("agents", 1)))
	bystander := r.create(request(agent("agents"), off("agents", 1)))
	revoke := func(version int64, keep string) int32 {
		res, err := r.auth.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{Agent: a, AgentVersion: version, KeepSession: keep})
		require.NoError(t, err)
		return res.GetRevoked()
	}
	require.EqualValues(t, 1, revoke(2, second.GetName()))
	r.over(first.GetToken(), errs.ReasonSessionRevoked)
	r.stands(second.GetToken())
	r.stands(bystander.GetToken())

	_, err := r.auth.CreateSession(t.Context(), request(a, off("agents", 1)))
	requireReason(t, err, codes.Aborted, errs.ReasonAgentVersionStale)

	require.EqualValues(t, 1, revoke(3, ""))
	r.over(second.GetToken(), errs.ReasonSessionRevoked)
	again := request(a, off("agents", 1))
	again.AgentVersion = 3
	third := r.create(again)
	// Duplicates come late, and change nothing newer.
	require.Zero(t, revoke(3, ""))
	require.Zero(t, revoke(2, second.GetName()))
	r.stands(third.GetToken())
	r.over(second.GetToken(), errs.ReasonSessionRevoked)
	again.AgentVersion = 2
	_, err = r.auth.CreateSession(t.Context(), again)
	requireReason(t, err, codes.Aborted, errs.ReasonAgentVersionStale)
}

func testReissue(t *testing.T, r *rig) {
	req := request(agent("reissue"), off("reissue", 1))
	req.KeepMeLoggedIn = true
	old := r.create(req)
	r.clock.Advance(time.Hour)
	reissue := func(name string, version int64) (*sessionv1.Session, error) {
		res, err := r.auth.ReissueSession(t.Context(), &sessionv1.ReissueSessionRequest{
			Name: name, AgentVersion: version, Enforcement: on("reissue", 2, r.clock.Now(), time.Hour),
		})
		return res.GetSession(), err
	}
	raised, err := reissue(old.GetName(), 2)
	require.NoError(t, err)
	r.over(old.GetToken(), errs.ReasonSessionRevoked)
	got := r.stands(raised.GetToken())
	require.Equal(t, sessionv1.Session_AAL2, got.GetAssuranceLevel())
	require.NotEqual(t, old.GetName(), got.GetName())
	require.Equal(t, r.clock.Now(), got.GetFactorVerifyTime().AsTime())
	require.Equal(t, old.GetCreateTime().AsTime(), got.GetCreateTime().AsTime())
	require.Equal(t, old.GetExpireTime().AsTime(), got.GetExpireTime().AsTime())
	require.True(t, got.GetKeepMeLoggedIn())
	require.Nil(t, got.GetPolicyRevokeTime())
	_, err = reissue(old.GetName(), 2)
	requireReason(t, err, codes.Unauthenticated, errs.ReasonSessionRevoked)
	_, err = r.auth.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{Agent: req.GetAgent(), AgentVersion: 2, KeepSession: raised.GetName()})
	require.NoError(t, err)
	r.stands(raised.GetToken())
	_, err = reissue(raised.GetName(), 1)
	requireReason(t, err, codes.Aborted, errs.ReasonAgentVersionStale)
	r.stands(raised.GetToken())
}

// Whoever removes their last factor keeps the session, but not what it proved.
func testLower(t *testing.T, r *rig) {
	req := request(agent("lower"), off("lower", 1))
	req.AssuranceLevel = sessionv1.Session_AAL2
	kept, other := r.create(req), r.create(req)
	count := func() int64 {
		res, err := sessionv1.NewSessionServiceClient(r.conn("gateway")).
			CountSessions(t.Context(), &sessionv1.CountSessionsRequest{Account: "lower"})
		require.NoError(t, err)
		return res.GetAal1()
	}
	require.Zero(t, count())
	for range 2 { // the event says it once more
		_, err := r.auth.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{
			Agent: req.GetAgent(), AgentVersion: 2, KeepSession: kept.GetName(), LowerKept: true,
		})
		require.NoError(t, err)
		r.over(other.GetToken(), errs.ReasonSessionRevoked)
		res, err := r.auth.ValidateSession(t.Context(), &sessionv1.ValidateSessionRequest{Token: kept.GetToken()})
		require.NoError(t, err)
		require.EqualValues(t, 2, res.GetAgentVersion())
		require.Equal(t, sessionv1.Session_AAL1, res.GetSession().GetAssuranceLevel())
		require.Nil(t, res.GetSession().GetFactorVerifyTime())
		require.Equal(t, kept.GetExpireTime().AsTime(), res.GetSession().GetExpireTime().AsTime())
		require.EqualValues(t, 1, count())
	}
	// It is covered like any other session at AAL1.
	r.apply(on("lower", 2, r.clock.Now().Add(time.Second), time.Hour))
	require.NotNil(t, r.stands(kept.GetToken()).GetPolicyRevokeTime())
}

// A session that had a second factor all through an enforcement lives on when the
// factor is removed after it: what is over by then had no reason to end it.
func testLowerAfterwards(t *testing.T, r *rig) {
	enforced := on("lowered", 1, r.clock.Now(), time.Minute)
	req := request(agent("lowered"), enforced)
	r.clock.Advance(time.Second)
	req.AssuranceLevel = sessionv1.Session_AAL2
	during := r.create(req)
	r.clock.Advance(time.Hour)
	lifted := off("lowered", 2)
	lifted.UpdateTime = timestamppb.New(r.clock.Now())
	r.apply(lifted)
	r.clock.Advance(time.Second)
	_, err := r.auth.RevokeAgentSessions(t.Context(), &sessionv1.RevokeAgentSessionsRequest{
		Agent: req.GetAgent(), AgentVersion: 2, KeepSession: during.GetName(), LowerKept: true,
	})
	require.NoError(t, err)
	require.Equal(t, sessionv1.Session_AAL1, r.stands(during.GetToken()).GetAssuranceLevel())
	// The next one ends it like any other, and it stays so.
	r.clock.Advance(time.Second)
	r.apply(on("lowered", 3, r.clock.Now(), time.Minute))
	r.clock.Advance(time.Minute)
	r.over(during.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	lifted = off("lowered", 4)
	lifted.UpdateTime = timestamppb.New(r.clock.Now())
	r.apply(lifted)
	r.over(during.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
}

func testEnforcement(t *testing.T, r *rig) {
	plain := request(agent("enforce"), off("enforce", 1))
	plain.KeepMeLoggedIn = true
	before := r.create(plain)
	strong := request(agent("enforce"), off("enforce", 1))
	strong.AssuranceLevel, strong.KeepMeLoggedIn = sessionv1.Session_AAL2, true
	aal2 := r.create(strong)
	sso := request(agent("enforce"), off("enforce", 1))
	sso.FirstFactor, sso.HasPassword, sso.KeepMeLoggedIn = sessionv1.Session_SSO, false, true
	exempt := r.create(sso)

	r.clock.Advance(time.Minute)
	since := r.clock.Now()
	require.EqualValues(t, 2, r.apply(on("enforce", 2, since, 7*24*time.Hour)))
	require.EqualValues(t, 2, r.apply(off("enforce", 1)), "an older revision changes nothing")
	require.Equal(t, since.Add(7*24*time.Hour), r.stands(before.GetToken()).GetPolicyRevokeTime().AsTime())
	require.Nil(t, r.stands(aal2.GetToken()).GetPolicyRevokeTime())
	require.Nil(t, r.stands(exempt.GetToken()).GetPolicyRevokeTime())

	r.clock.Advance(7*24*time.Hour - time.Microsecond)
	r.stands(before.GetToken())
	r.clock.Advance(time.Microsecond)
	r.over(before.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	r.stands(aal2.GetToken())
	r.stands(exempt.GetToken())

	// The sweep leaves the reason behind.
	r.clock.Advance(10 * time.Second)
	r.waitSwept()
	r.over(before.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	require.EqualValues(t, 3, r.apply(off("enforce", 3)))
	r.over(before.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	r.stands(exempt.GetToken())
}

// waitSwept waits until nothing is due.
func (r *rig) waitSwept() {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		due, err := r.svc.store.dueBy(r.t.Context(), r.clock.Now(), 100)
		return err == nil && len(due) == 0
	}, 10*time.Second, 5*time.Millisecond)
}

// A policy that is lifted after its deadline gives nothing back; one that is lifted
// before takes nothing.
func testEndedStays(t *testing.T, r *rig) {
	early, late := request(agent("early"), off("early", 1)), request(agent("late"), off("late", 1))
	early.KeepMeLoggedIn, late.KeepMeLoggedIn = true, true
	saved, ended := r.create(early), r.create(late)
	r.clock.Advance(time.Second)
	since := r.clock.Now()
	r.apply(on("early", 2, since, time.Hour))
	r.apply(on("late", 2, since, time.Hour))
	r.clock.Advance(time.Hour + 2*time.Second) // before any sweep
	r.over(saved.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	lift := func(account string, at time.Time) {
		e := off(account, 3)
		e.UpdateTime = on(account, 3, at, 0).GetUpdateTime()
		r.apply(e)
	}
	lift("early", since.Add(time.Hour-time.Second))
	lift("late", since.Add(time.Hour+time.Second))
	r.stands(saved.GetToken())
	r.over(ended.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
	late.Enforcement = off("late", 3)
	r.stands(r.create(late).GetToken())
	r.apply(on("late", 4, r.clock.Now(), time.Hour))
	r.over(ended.GetToken(), errs.ReasonSessionEndedByMFAPolicy)
}

func testStale(t *testing.T, r *rig) {
	r.apply(on("stale", 2, r.clock.Now(), time.Hour))
	_, err := r.auth.CreateSession(t.Context(), request(agent("stale"), off("stale", 1)))
	requireReason(t, err, codes.Aborted, errs.ReasonPolicyRevisionStale)
	// A newer one than is known is learned: the next sign-in there must carry it.
	strong := request(agent("stale"), off("stale", 3))
	strong.AssuranceLevel = sessionv1.Session_AAL2
	made := r.create(strong)
	weak := request(made.GetAgent(), on("stale", 2, r.clock.Now(), time.Hour))
	_, err = r.auth.CreateSession(t.Context(), weak)
	requireReason(t, err, codes.Aborted, errs.ReasonPolicyRevisionStale)
	for name, change := range map[string]func(*sessionv1.CreateSessionRequest){
		"no agent":      func(q *sessionv1.CreateSessionRequest) { q.Agent = "accounts/stale" },
		"other account": func(q *sessionv1.CreateSessionRequest) { q.Enforcement = off("fresh", 3) },
		"no kind":       func(q *sessionv1.CreateSessionRequest) { q.Client = nil },
		"no time": func(q *sessionv1.CreateSessionRequest) {
			q.Enforcement = on("stale", 4, time.Time{}, 0)
			q.Enforcement.EnforceTime = nil
		},
	} {
		q := request(agent("stale"), off("stale", 3))
		change(q)
		_, err := r.auth.CreateSession(t.Context(), q)
		require.Error(t, err, name)
		requireReason(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
	}
}

func testCount(t *testing.T, r *rig) {
	gateway := sessionv1.NewSessionServiceClient(r.conn("gateway"))
	count := func(sso bool) [2]int64 {
		res, err := gateway.CountSessions(t.Context(), &sessionv1.CountSessionsRequest{Account: "count", ApplyToSso: sso})
		require.NoError(t, err)
		return [2]int64{res.GetEnding(), res.GetAal1()}
	}
	require.Equal(t, [2]int64{0, 0}, count(true))
	var last *sessionv1.Session
	for range 5 {
		last = r.create(request(agent("count"), off("count", 1)))
	}
	sso := request(agent("count"), off("count", 1))
	sso.FirstFactor, sso.HasPassword = sessionv1.Session_SSO, false
	r.create(sso)
	strong := request(agent("count"), off("count", 1))
	strong.AssuranceLevel = sessionv1.Session_AAL2
	r.create(strong)
	require.Equal(t, [2]int64{5, 6}, count(false))
	require.Equal(t, [2]int64{6, 6}, count(true))
	_, err := r.auth.RevokeSession(t.Context(), &sessionv1.RevokeSessionRequest{Name: last.GetName()})
	require.NoError(t, err)
	require.Equal(t, [2]int64{4, 5}, count(false))
	r.apply(on("count", 2, r.clock.Now().Add(time.Second), time.Hour))
	require.Equal(t, [2]int64{4, 5}, count(false))
	r.clock.Advance(time.Hour + time.Second)
	require.Equal(t, [2]int64{0, 1}, count(false))
	r.clock.Advance(11 * time.Hour)
	require.Equal(t, [2]int64{0, 0}, count(false), "idle for too long")
}
