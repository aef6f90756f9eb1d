package policy_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/testkit"
	"github.com/twofold-auth/twofold/services/policy"
)

// enforced is an update that does one thing.
func enforced(on bool) *policyv1.UpdateMfaPolicyRequest {
	return &policyv1.UpdateMfaPolicyRequest{
		MfaPolicy:  &policyv1.MfaPolicy{Name: acme, Enforced: on},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"enforced"}},
	}
}

func grace(d time.Duration) *policyv1.UpdateMfaPolicyRequest {
	return &policyv1.UpdateMfaPolicyRequest{
		MfaPolicy:  &policyv1.MfaPolicy{Name: acme, GracePeriod: durationpb.New(d)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"grace_period"}},
	}
}

// update makes an update that must succeed.
func (p *process) update(token string, req *policyv1.UpdateMfaPolicyRequest) *policyv1.MfaPolicy {
	p.s.t.Helper()
	resp, err := p.people().UpdateMfaPolicy(with(p.s.t.Context(), token), req)
	require.NoError(p.s.t, err)
	return resp.GetMfaPolicy()
}

func (p *process) get() *policyv1.MfaPolicy {
	p.s.t.Helper()
	resp, err := p.people().GetMfaPolicy(with(p.s.t.Context(), admin), &policyv1.GetMfaPolicyRequest{Name: acme})
	require.NoError(p.s.t, err)
	return resp.GetMfaPolicy()
}

func requireSame(t *testing.T, want, got proto.Message) {
	t.Helper()
	require.Truef(t, proto.Equal(want, got), "want %v\ngot  %v", want, got)
}

func TestCreate_startsNotEnforced_repeatingChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		created := p.create("acme")
		require.Equal(t, acme, created.GetName())
		require.False(t, created.GetEnforced())
		require.Equal(t, week, created.GetGracePeriod().AsDuration())
		require.EqualValues(t, 1, created.GetRevision())
		require.Nil(t, created.GetEnforceTime())
		require.Nil(t, created.GetSessionRevokeTime())
		requireSame(t, created, p.create("acme"))
		requireSame(t, created, p.get())

		p.update(admin, enforced(true))
		require.True(t, p.create("acme").GetEnforced(), "a late repetition does not undo what came after")
	})
}

func TestUpdate_oneLife(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		before := time.Now()

		on := p.update(admin, enforced(true))
		require.True(t, on.GetEnforced())
		require.EqualValues(t, 2, on.GetRevision())
		require.WithinDuration(t, before, on.GetEnforceTime().AsTime(), 30*time.Second)
		require.Equal(t, week, on.GetSessionRevokeTime().AsTime().Sub(on.GetEnforceTime().AsTime()))
		requireSame(t, on, p.get())

		requireSame(t, on, p.update(admin, enforced(true))) // nothing to do, nothing done

		moved := p.update(admin, grace(time.Hour))
		require.EqualValues(t, 3, moved.GetRevision())
		requireSame(t, on.GetEnforceTime(), moved.GetEnforceTime())
		require.Equal(t, time.Hour, moved.GetSessionRevokeTime().AsTime().Sub(on.GetEnforceTime().AsTime()))
		require.NotEqual(t, on.GetEtag(), moved.GetEtag())

		off := p.update(admin, enforced(false))
		require.EqualValues(t, 4, off.GetRevision())
		require.Nil(t, off.GetEnforceTime())
		require.Nil(t, off.GetSessionRevokeTime())

		again := p.update(admin, enforced(true))
		require.True(t, again.GetEnforceTime().AsTime().After(on.GetEnforceTime().AsTime()), "a fresh enforcement")

		list, err := p.people().ListMfaPolicyRevisions(with(t.Context(), admin), &policyv1.ListMfaPolicyRevisionsRequest{Parent: acme})
		require.NoError(t, err)
		require.Len(t, list.GetRevisions(), 5)
		for i, want := range []*policyv1.MfaPolicy{again, off, moved, on} {
			got := list.GetRevisions()[i]
			requireSame(t, want, got.GetPolicy())
			requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: "accounts/acme/agents/" + adminID}, got.GetActor())
		}
		require.Equal(t, acme+"/revisions/5", list.GetRevisions()[0].GetName())
		// The re-enabling shows the deadline it put off; nothing else does.
		requireSame(t, moved.GetSessionRevokeTime(), list.GetRevisions()[0].GetPreviousSessionRevokeTime())
		for _, r := range list.GetRevisions()[1:] {
			require.Nil(t, r.GetPreviousSessionRevokeTime(), r.GetName())
		}
		requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_SERVICE, Name: "auth"}, list.GetRevisions()[4].GetActor())
	})
}

func TestUpdate_tellsTheSessionServiceBeforeAnswering(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.create("acme")
	on := p.update(admin, enforced(true))
	known := s.sessions.of("acme")
	require.EqualValues(t, 2, known.GetRevision())
	require.True(t, known.GetEnforced())
	requireSame(t, on.GetEnforceTime(), known.GetEnforceTime())
	requireSame(t, on.GetGracePeriod(), known.GetGracePeriod())
	requireSame(t, on.GetUpdateTime(), known.GetUpdateTime())

	p.update(admin, enforced(false))
	known = s.sessions.of("acme")
	require.EqualValues(t, 3, known.GetRevision())
	require.False(t, known.GetEnforced())
	require.Nil(t, known.GetEnforceTime())
	require.Nil(t, known.GetGracePeriod())
}

func TestUpdate_fieldMask(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.create("acme")
	all := &policyv1.MfaPolicy{
		Name: acme, Enforced: true, GracePeriod: durationpb.New(time.Hour), ApplyToSso: true,
		// What was read may be sent back; none of it is a setting.
		Revision: 77, UpdateTime: p.get().GetUpdateTime(), SessionRevokeTime: p.get().GetUpdateTime(),
	}
	send := func(mask *fieldmaskpb.FieldMask, with ...func(*policyv1.MfaPolicy)) *policyv1.MfaPolicy {
		sent := proto.CloneOf(all)
		for _, f := range with {
			f(sent)
		}
		return p.update(admin, &policyv1.UpdateMfaPolicyRequest{MfaPolicy: sent, UpdateMask: mask})
	}

	got := send(&fieldmaskpb.FieldMask{Paths: []string{"name", "etag", "revision", "enforce_time", "session_revoke_time", "update_time"}})
	require.EqualValues(t, 1, got.GetRevision(), "output only fields are ignored")
	got = send(&fieldmaskpb.FieldMask{})
	require.EqualValues(t, 1, got.GetRevision(), "an empty JSON body changes nothing")

	got = send(&fieldmaskpb.FieldMask{Paths: []string{"apply_to_sso", "name"}})
	require.True(t, got.GetApplyToSso())
	require.False(t, got.GetEnforced())
	require.Equal(t, week, got.GetGracePeriod().AsDuration())
	require.EqualValues(t, 2, got.GetRevision())

	got = send(nil, func(m *policyv1.MfaPolicy) { m.GracePeriod = nil })
	require.True(t, got.GetEnforced(), "no mask: all fields")
	require.Equal(t, week, got.GetGracePeriod().AsDuration(), "but an absent period is not one of zero")

	got = send(nil)
	require.Equal(t, time.Hour, got.GetGracePeriod().AsDuration())

	got = send(&fieldmaskpb.FieldMask{Paths: []string{"*"}}, func(m *policyv1.MfaPolicy) { m.Enforced, m.ApplyToSso = false, false })
	require.False(t, got.GetEnforced())
	require.False(t, got.GetApplyToSso())
}

func TestUpdate_refusals(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		s.config.MinGracePeriod = time.Minute
		p := s.start()
		created := p.create("acme")
		p.create("globex")

		named := func(name string) *policyv1.UpdateMfaPolicyRequest {
			req := enforced(true)
			req.MfaPolicy.Name = name
			return req
		}
		masked := func(path string) *policyv1.UpdateMfaPolicyRequest {
			req := enforced(true)
			req.UpdateMask.Paths = []string{"enforced", path}
			return req
		}
		stale := enforced(true)
		stale.MfaPolicy.Etag = "stale"
		staleAndUnchanged := enforced(false)
		staleAndUnchanged.MfaPolicy.Etag = "stale"
		noPeriod := grace(0)
		noPeriod.MfaPolicy.GracePeriod = nil
		badPeriod := grace(0)
		badPeriod.MfaPolicy.GracePeriod = &durationpb.Duration{Seconds: 1, Nanos: -1}
		hugePeriod := grace(0)
		hugePeriod.MfaPolicy.GracePeriod = &durationpb.Duration{Seconds: math.MaxInt64}
		centuries := grace(0)
		centuries.MfaPolicy.GracePeriod = &durationpb.Duration{Seconds: 315_576_000_000} // saturates a time.Duration
		longID := enforced(true)
		longID.RequestId = strings.Repeat("x", 65)
		brokenID := enforced(true)
		brokenID.RequestId = "a\nb"
		nulID := enforced(true)
		nulID.RequestId = "a\x00b"

		for name, c := range map[string]struct {
			token  string
			req    *policyv1.UpdateMfaPolicyRequest
			code   codes.Code
			reason string
		}{
			"no session":              {"", enforced(true), codes.Unauthenticated, errs.ReasonCredentialsMissing},
			"not an admin":            {agent, enforced(true), codes.PermissionDenied, errs.ReasonCallerNotPermitted},
			"another account":         {globexAdmin, enforced(true), codes.NotFound, errs.ReasonResourceNotFound},
			"unknown account, admin":  {admin, named("accounts/initech/mfaPolicy"), codes.NotFound, errs.ReasonResourceNotFound},
			"unknown account":         {operatorToken, named("accounts/initech/mfaPolicy"), codes.NotFound, errs.ReasonResourceNotFound},
			"impossible account":      {operatorToken, named("accounts/A*/mfaPolicy"), codes.NotFound, errs.ReasonResourceNotFound},
			"no name":                 {admin, named(""), codes.InvalidArgument, errs.ReasonInvalidField},
			"another kind of name":    {admin, named("accounts/acme"), codes.InvalidArgument, errs.ReasonInvalidField},
			"a name within":           {admin, named("accounts/acme/x/mfaPolicy"), codes.InvalidArgument, errs.ReasonInvalidField},
			"no policy":               {admin, &policyv1.UpdateMfaPolicyRequest{}, codes.InvalidArgument, errs.ReasonInvalidField},
			"unknown mask path":       {admin, masked("grace"), codes.InvalidArgument, errs.ReasonFieldMaskInvalid},
			"mask path within":        {admin, masked("grace_period.seconds"), codes.InvalidArgument, errs.ReasonFieldMaskInvalid},
			"JSON mask path":          {admin, masked("gracePeriod"), codes.InvalidArgument, errs.ReasonFieldMaskInvalid},
			"period too short":        {admin, grace(time.Minute - time.Second), codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange},
			"period too long":         {admin, grace(policy.MaxGracePeriod + time.Second), codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange},
			"period negative":         {admin, grace(-time.Hour), codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange},
			"period of centuries":     {admin, centuries, codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange},
			"period beyond durations": {admin, hugePeriod, codes.InvalidArgument, errs.ReasonInvalidField},
			"period malformed":        {admin, badPeriod, codes.InvalidArgument, errs.ReasonInvalidField},
			"period too fine":         {admin, grace(time.Hour + time.Nanosecond), codes.InvalidArgument, errs.ReasonInvalidField},
			"period missing":          {admin, noPeriod, codes.InvalidArgument, errs.ReasonInvalidField},
			"admin without a factor":  {plainAdmin, enforced(true), codes.FailedPrecondition, errs.ReasonAdminNotEnrolled},
			"stale etag":              {admin, stale, codes.Aborted, errs.ReasonEtagMismatch},
			"stale etag, no change":   {admin, staleAndUnchanged, codes.Aborted, errs.ReasonEtagMismatch},
			"long request id":         {admin, longID, codes.InvalidArgument, errs.ReasonInvalidField},
			"request id of two lines": {admin, brokenID, codes.InvalidArgument, errs.ReasonInvalidField},
			"request id with a NUL":   {admin, nulID, codes.InvalidArgument, errs.ReasonInvalidField},
		} {
			ctx := t.Context()
			if c.token != "" {
				ctx = with(ctx, c.token)
			}
			_, err := p.people().UpdateMfaPolicy(ctx, c.req)
			t.Log(name, err)
			info := testkit.RequireError(t, err, c.code, c.reason)
			if c.reason == errs.ReasonGracePeriodOutOfRange {
				require.Equal(t, map[string]string{"minGracePeriod": "60s", "maxGracePeriod": "7776000s"}, info.GetMetadata())
				require.ErrorContains(t, err, "at least 1m and at most 2160h")
			}
		}
		_, err := p.as("auth").UpdateMfaPolicy(t.Context(), enforced(true))
		testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
		requireSame(t, created, p.get())
		require.Empty(t, s.sessions.of("acme"), "nothing refused was told")
	})
}

func TestUpdate_whoMay(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.create("acme")

	// Everything but enabling needs no second factor.
	p.update(plainAdmin, grace(time.Hour))
	require.True(t, p.update(owner, enforced(true)).GetEnforced())
	p.update(plainAdmin, grace(2*time.Hour))
	require.False(t, p.update(plainAdmin, enforced(false)).GetEnforced())

	// The operator has none and needs none, by token and by certificate.
	require.True(t, p.update(operatorToken, enforced(true)).GetEnforced())
	p.update(operatorToken, enforced(false))
	resp, err := p.as("operator").UpdateMfaPolicy(t.Context(), enforced(true))
	require.NoError(t, err)
	require.True(t, resp.GetMfaPolicy().GetEnforced())

	list, err := p.people().ListMfaPolicyRevisions(with(t.Context(), operatorToken), &policyv1.ListMfaPolicyRevisionsRequest{Parent: acme, PageSize: 1})
	require.NoError(t, err)
	requireSame(t, &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}, list.GetRevisions()[0].GetActor())
}

func TestGet_whoMay(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	created := p.create("acme")
	req := &policyv1.GetMfaPolicyRequest{Name: acme}
	for _, service := range []string{"auth", "gateway", "notifier", "operator"} {
		resp, err := p.as(service).GetMfaPolicy(t.Context(), req)
		require.NoError(t, err, service)
		requireSame(t, created, resp.GetMfaPolicy())
	}
	_, err := p.as("session").GetMfaPolicy(t.Context(), req)
	testkit.RequireError(t, err, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	_, err = p.people().GetMfaPolicy(with(t.Context(), globexAdmin), req)
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	_, err = p.as("auth").GetMfaPolicy(t.Context(), &policyv1.GetMfaPolicyRequest{Name: "accounts/initech/mfaPolicy"})
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)

	_, err = p.people().CreateMfaPolicy(with(t.Context(), operatorToken), &policyv1.CreateMfaPolicyRequest{Account: "x"})
	testkit.RequireError(t, err, codes.Unauthenticated, errs.ReasonCredentialsMissing)
	_, err = p.as("auth").CreateMfaPolicy(t.Context(), &policyv1.CreateMfaPolicyRequest{Account: "X"})
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonInvalidField)
}

func TestUpdate_etagOfWhatWasRead(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	req := enforced(true)
	req.MfaPolicy.Etag = p.create("acme").GetEtag()
	p.update(admin, req)
	_, err := p.people().UpdateMfaPolicy(with(t.Context(), admin), req)
	testkit.RequireError(t, err, codes.Aborted, errs.ReasonEtagMismatch)
}

func TestUpdate_requestID(t *testing.T) {
	onBoth(t, func(t *testing.T, s *suite) {
		p := s.start()
		p.create("acme")
		req := enforced(true)
		req.RequestId = "first"
		on := p.update(admin, req)
		p.update(admin, enforced(false))

		// The first answer again, although the policy has moved on. Who asks does
		// not matter, for nothing happens.
		requireSame(t, on, p.update(admin, req))
		requireSame(t, on, p.update(operatorToken, req))
		require.EqualValues(t, 3, p.get().GetRevision())
		require.EqualValues(t, 3, s.sessions.of("acme").GetRevision())

		other := proto.CloneOf(req)
		other.MfaPolicy.Enforced = false
		_, err := p.people().UpdateMfaPolicy(with(t.Context(), admin), other)
		testkit.RequireError(t, err, codes.AlreadyExists, errs.ReasonRequestIDReused)

		// What was refused is decided anew.
		refused := enforced(true)
		refused.RequestId = "second"
		_, err = p.people().UpdateMfaPolicy(with(t.Context(), plainAdmin), refused)
		testkit.RequireError(t, err, codes.FailedPrecondition, errs.ReasonAdminNotEnrolled)
		require.EqualValues(t, 4, p.update(admin, refused).GetRevision())
	})
}

func TestPreview_isWhatAnUpdateWouldDo(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	preview := func(token string, req *policyv1.UpdateMfaPolicyRequest) (*policyv1.PreviewMfaPolicyResponse, error) {
		return p.people().PreviewMfaPolicy(with(t.Context(), token),
			&policyv1.PreviewMfaPolicyRequest{MfaPolicy: req.GetMfaPolicy(), UpdateMask: req.GetUpdateMask()})
	}
	created := p.create("acme")
	for i, c := range []struct {
		req  *policyv1.UpdateMfaPolicyRequest
		want policyv1.PreviewMfaPolicyResponse_Transition
	}{
		{enforced(false), policyv1.PreviewMfaPolicyResponse_TRANSITION_UNSPECIFIED},
		{grace(2 * week), policyv1.PreviewMfaPolicyResponse_TRANSITION_UNSPECIFIED},
		{enforced(true), policyv1.PreviewMfaPolicyResponse_ENABLED},
		{enforced(true), policyv1.PreviewMfaPolicyResponse_TRANSITION_UNSPECIFIED},
		{grace(time.Hour), policyv1.PreviewMfaPolicyResponse_UPDATED},
		{enforced(false), policyv1.PreviewMfaPolicyResponse_DISABLED},
	} {
		before := p.get()
		// Also by somebody who may not save it.
		shown, err := preview(plainAdmin, c.req)
		require.NoError(t, err)
		require.Equal(t, c.want, shown.GetTransition(), i)
		requireSame(t, before, shown.GetCurrent())
		requireSame(t, before, p.get())

		saved := p.update(admin, c.req)
		got := shown.GetPreview()
		require.Equal(t, saved.GetRevision(), got.GetRevision(), i)
		require.Equal(t, saved.GetEnforced(), got.GetEnforced(), i)
		requireSame(t, saved.GetGracePeriod(), got.GetGracePeriod())
		require.WithinDuration(t, saved.GetSessionRevokeTime().AsTime(), got.GetSessionRevokeTime().AsTime(), 30*time.Second)
	}
	require.EqualValues(t, 5, p.get().GetRevision())

	for reason, req := range map[string]*policyv1.UpdateMfaPolicyRequest{
		errs.ReasonGracePeriodOutOfRange: grace(-time.Second),
		errs.ReasonInvalidField:          {MfaPolicy: &policyv1.MfaPolicy{Name: "acme"}},
	} {
		_, err := preview(admin, req)
		testkit.RequireError(t, err, codes.InvalidArgument, reason)
	}
	_, err := preview(globexAdmin, enforced(true))
	testkit.RequireError(t, err, codes.NotFound, errs.ReasonResourceNotFound)
	require.EqualValues(t, 1, created.GetRevision())
}

// A limit that was raised later holds for what is chosen from then on.
func TestUpdate_raisedMinimum(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.create("acme")
	p.update(admin, grace(0))
	p.update(admin, enforced(true))
	p.stop()

	s.config.MinGracePeriod = time.Hour
	p = s.start()
	everything := proto.CloneOf(p.get())
	everything.Enforced = false
	off := p.update(admin, &policyv1.UpdateMfaPolicyRequest{MfaPolicy: everything})
	require.Zero(t, off.GetGracePeriod().AsDuration(), "it does not stand in the way of switching off")
	_, err := p.people().UpdateMfaPolicy(with(t.Context(), admin), enforced(true))
	testkit.RequireError(t, err, codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange)
}

func TestReady_withoutDatabase(t *testing.T) {
	server := testkit.PrivatePostgres(t)
	s := newSuite(t, server.URL())
	p := s.start()
	p.create("acme")
	require.NoError(t, p.service.Ready(t.Context()))
	server.Stop(t)
	require.Error(t, p.service.Ready(t.Context()))
	_, err := p.people().UpdateMfaPolicy(with(t.Context(), admin), enforced(true))
	testkit.RequireError(t, err, codes.Unavailable, errs.ReasonDependencyUnavailable)
	server.Start(t)
	require.True(t, p.update(admin, enforced(true)).GetEnforced())
}

func TestNew_refusesConfigurations(t *testing.T) {
	for name, cfg := range map[string]policy.Config{
		"no default":             {},
		"default below minimum":  {MinGracePeriod: 2 * week, DefaultGracePeriod: week},
		"default beyond maximum": {DefaultGracePeriod: policy.MaxGracePeriod + 1},
		"negative minimum":       {MinGracePeriod: -1, DefaultGracePeriod: week},
		"minimum beyond maximum": {MinGracePeriod: policy.MaxGracePeriod + 1, DefaultGracePeriod: week},
		"too fine":               {DefaultGracePeriod: week + 1},
	} {
		_, err := policy.New(cfg, policy.Deps{})
		require.Error(t, err, name)
	}
}

func TestUpdate_callerHangsUp_sessionServiceStillTold(t *testing.T) {
	s := newSuite(t, testkit.SQLite(t))
	p := s.start()
	p.create("acme")
	ctx, cancel := context.WithCancel(with(t.Context(), admin))
	s.sessions.answers(func(told context.Context, _ string) error {
		cancel() // the change is committed, its caller gone
		select {
		case <-told.Done():
			return told.Err()
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	})
	_, err := p.people().UpdateMfaPolicy(ctx, enforced(true))
	require.Error(t, err)
	require.Eventually(t, func() bool { return s.sessions.of("acme").GetRevision() == 2 }, 10*time.Second, time.Millisecond)
}
