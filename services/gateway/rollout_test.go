package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

const rolloutPath = "/v1/accounts/acme/rollout"

// answerRollout is an account of 10 agents, 4 of them with a factor.
func answerRollout(s *suite, policy string) {
	s.answer(policyv1.PolicyService_GetMfaPolicy_FullMethodName,
		&policyv1.GetMfaPolicyResponse{MfaPolicy: mustUnmarshal(&policyv1.MfaPolicy{}, policy)})
	s.answer(authv1.AgentService_CountAgents_FullMethodName, &authv1.CountAgentsResponse{Covered: 10, Enrolled: 4, ToNotify: 5})
	s.answer(sessionv1.SessionService_CountSessions_FullMethodName, &sessionv1.CountSessionsResponse{Ending: 7, Aal1: 8})
	s.answer(notifierv1.NoticeService_CountNotices_FullMethodName, mustUnmarshal(&notifierv1.CountNoticesResponse{}, `{"counts":[
		{"state":"QUEUED","notices":"1"},{"state":"SENDING","notices":"2"},{"state":"RETRYING","notices":"4"},{"state":"SENT","notices":"8"},
		{"state":"FAILED","notices":"16"},{"state":"UNKNOWN","notices":"32"},{"state":"SUPPRESSED","notices":"64"}],"fanOutComplete":true,"told":"6"}`))
}

const enforcedPolicy = `{"name":"accounts/acme/mfaPolicy","enforced":true,"applyToSso":true,"revision":"3","gracePeriod":"3600s",
	"enforceTime":"2026-01-01T00:00:00Z","sessionRevokeTime":"2026-01-01T01:00:00Z"}`

func TestRollout_isPutTogether(t *testing.T) {
	s := newSuite(t)
	answerRollout(s, enforcedPolicy)
	for _, token := range []string{"admin", "weak-admin", operatorToken} {
		r := s.do(http.MethodGet, rolloutPath, "", bearer(token)...)
		require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
		var plain struct{ AgentsTotal, SessionsEnding int }
		require.NoError(t, json.Unmarshal(r.body, &plain), "counts are JSON numbers: %s", r.body)
		require.Equal(t, 17, plain.AgentsTotal+plain.SessionsEnding)
		var rollout rolloutv1.Rollout
		require.NoError(t, protojson.Unmarshal(r.body, &rollout))
		require.WithinDuration(t, time.Now(), rollout.GetReadTime().AsTime(), time.Minute)
		rollout.ReadTime = nil
		want := mustUnmarshal(&rolloutv1.Rollout{}, `{"name":"accounts/acme/rollout","policy":`+enforcedPolicy+`,"agentsTotal":10,"agentsEnrolled":4,
			"notices":{"queued":1,"retrying":6,"sent":8,"failed":16,"unknown":32,"suppressed":64,"total":127,"complete":true},
			"sessionsEnding":7,"sessionRevokeTime":"2026-01-01T01:00:00Z"}`)
		require.True(t, proto.Equal(want, &rollout), "%v", &rollout)
	}
	for _, c := range s.taken() {
		require.Equal(t, authz.KindService, c.caller.Kind, "the gateway asks for itself")
		switch request := c.request.(type) {
		case *policyv1.GetMfaPolicyRequest:
			require.Equal(t, "accounts/acme/mfaPolicy", request.GetName())
		case *authv1.CountAgentsRequest:
			require.Equal(t, "acme", request.GetAccount())
			require.True(t, request.GetApplyToSso())
		case *sessionv1.CountSessionsRequest:
			require.Equal(t, "acme", request.GetAccount())
			require.True(t, request.GetApplyToSso())
		case *notifierv1.CountNoticesRequest:
			require.Equal(t, "acme", request.GetAccount())
			require.Equal(t, int64(3), request.GetPolicyRevision())
		default:
			require.Fail(t, "not asked for", c.method)
		}
	}
}

// To others an account does not exist, and nothing is read for them.
func TestRollout_ofOthers_isNotFound(t *testing.T) {
	s := newSuite(t)
	answerRollout(s, enforcedPolicy)
	for _, call := range []string{"GET " + rolloutPath, "GET " + rolloutPath + ":watch", "POST " + rolloutPath + ":preview", "GET /v1/accounts/Acme!/rollout"} {
		method, path, _ := strings.Cut(call, " ")
		body := ""
		if method == http.MethodPost {
			body = `{"policy":{"enforced":true}}`
		}
		r := s.do(method, path, body, bearer("other-admin")...)
		requireRefused(t, r, http.StatusNotFound, codes.NotFound, "RESOURCE_NOT_FOUND")
		r = s.do(method, path, body, bearer("agent")...)
		requireRefused(t, r, http.StatusForbidden, codes.PermissionDenied, "CALLER_NOT_PERMITTED")
	}
	require.Empty(t, s.taken())
}

func TestRollout_partDown_isUnavailable(t *testing.T) {
	s := newSuite(t)
	answerRollout(s, enforcedPolicy)
	s.fail(sessionv1.SessionService_CountSessions_FullMethodName, errs.Unavailable(nil).WithRetryAfter(time.Second))
	r := s.do(http.MethodGet, rolloutPath, "", bearer("admin")...)
	requireRefused(t, r, http.StatusServiceUnavailable, codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	// A watch is refused like any other call.
	r = s.do(http.MethodGet, rolloutPath+":watch", "", bearer("admin")...)
	requireRefused(t, r, http.StatusServiceUnavailable, codes.Unavailable, "DEPENDENCY_UNAVAILABLE")

	s.fail(policyv1.PolicyService_GetMfaPolicy_FullMethodName, errs.New(codes.NotFound, errs.ReasonResourceNotFound, "No."))
	r = s.do(http.MethodGet, "/v1/accounts/nobody/rollout", "", bearer(operatorToken)...)
	requireRefused(t, r, http.StatusNotFound, codes.NotFound, "RESOURCE_NOT_FOUND")
}

func TestPreview_saysWhatASaveWouldDo(t *testing.T) {
	const (
		off     = `{"name":"accounts/acme/mfaPolicy","revision":"1"}`
		on      = `{"name":"accounts/acme/mfaPolicy","enforced":true,"sessionRevokeTime":"2026-01-02T00:00:00Z"}`
		earlier = `{"name":"accounts/acme/mfaPolicy","enforced":true,"sessionRevokeTime":"2026-01-01T00:00:00Z"}`
		wider   = `{"name":"accounts/acme/mfaPolicy","enforced":true,"applyToSso":true,"sessionRevokeTime":"2026-01-02T00:00:00Z"}`
	)
	s := newSuite(t)
	answerRollout(s, off)
	s.answerWith(authv1.AgentService_CountAgents_FullMethodName, func(_ context.Context, request proto.Message) (proto.Message, error) {
		if r, _ := request.(*authv1.CountAgentsRequest); r.GetApplyToSso() {
			return &authv1.CountAgentsResponse{Covered: 30, Enrolled: 10, ToNotify: 18}, nil
		}
		return &authv1.CountAgentsResponse{Covered: 10, Enrolled: 4, ToNotify: 5}, nil
	})
	for name, c := range map[string]struct {
		now, then, transition string
		as                    string
		want                  string
	}{
		"enable":                 {off, on, "ENABLED", "admin", `"agentsTotal":10,"agentsNotSetUp":6,"mails":5,"mailKind":"ENFORCEMENT_ENABLED","sessionsEnding":7,"allowed":true`},
		"enable without factor":  {off, on, "ENABLED", "weak-admin", `"agentsTotal":10,"agentsNotSetUp":6,"mails":5,"mailKind":"ENFORCEMENT_ENABLED","sessionsEnding":7`},
		"enable as the operator": {off, on, "ENABLED", operatorToken, `"agentsTotal":10,"agentsNotSetUp":6,"mails":5,"mailKind":"ENFORCEMENT_ENABLED","sessionsEnding":7,"allowed":true`},
		"an earlier deadline":    {on, earlier, "UPDATED", "weak-admin", `"agentsTotal":10,"agentsNotSetUp":6,"mails":5,"mailKind":"ENFORCEMENT_ENABLED","sessionsEnding":7,"allowed":true`},
		"a later deadline":       {earlier, on, "UPDATED", "admin", `"agentsTotal":10,"agentsNotSetUp":6,"sessionsEnding":7,"allowed":true`},
		"more people":            {on, wider, "UPDATED", "admin", `"agentsTotal":30,"agentsNotSetUp":20,"mails":13,"mailKind":"ENFORCEMENT_ENABLED","sessionsEnding":7,"allowed":true`},
		"fewer people":           {wider, on, "UPDATED", "admin", `"agentsTotal":10,"agentsNotSetUp":6,"sessionsEnding":7,"allowed":true`},
		"disable":                {on, off, "DISABLED", "weak-admin", `"agentsTotal":10,"agentsNotSetUp":6,"mails":6,"mailKind":"ENFORCEMENT_LIFTED","allowed":true`},
		"nothing":                {on, on, "TRANSITION_UNSPECIFIED", "weak-admin", `"agentsTotal":10,"agentsNotSetUp":6,"sessionsEnding":7,"allowed":true`},
	} {
		t.Run(name, func(t *testing.T) {
			s.answer(policyv1.PolicyService_PreviewMfaPolicy_FullMethodName, mustUnmarshal(&policyv1.PreviewMfaPolicyResponse{},
				`{"current":`+c.now+`,"preview":`+c.then+`,"transition":"`+c.transition+`"}`))
			s.taken()
			r := s.do(http.MethodPost, rolloutPath+":preview", `{"policy":{"enforced":true,"gracePeriod":"60s"}}`, bearer(c.as)...)
			require.Equal(t, http.StatusOK, r.StatusCode, "%s", r.body)
			var got rolloutv1.PreviewRolloutResponse
			require.NoError(t, protojson.Unmarshal(r.body, &got))
			want := mustUnmarshal(&rolloutv1.PreviewRolloutResponse{}, `{"transition":"`+c.transition+`","policy":`+c.then+`,`+c.want+`}`)
			require.True(t, proto.Equal(want, &got), "%s", r.body)
			asked, ok := s.taken()[0].request.(*policyv1.PreviewMfaPolicyRequest)
			require.True(t, ok)
			require.True(t, proto.Equal(mustUnmarshal(&policyv1.PreviewMfaPolicyRequest{},
				`{"mfaPolicy":{"name":"accounts/acme/mfaPolicy","enforced":true,"gracePeriod":"60s"}}`), asked), "%v", asked)
		})
	}
	requireRefused(t, s.do(http.MethodPost, rolloutPath+":preview", `{}`, bearer("admin")...),
		http.StatusBadRequest, codes.InvalidArgument, "INVALID_FIELD")
	s.fail(policyv1.PolicyService_PreviewMfaPolicy_FullMethodName,
		errs.New(codes.InvalidArgument, errs.ReasonGracePeriodOutOfRange, "Too long.").WithField("mfa_policy.grace_period"))
	requireRefused(t, s.do(http.MethodPost, rolloutPath+":preview", `{"policy":{"enforced":true}}`, bearer("admin")...),
		http.StatusBadRequest, codes.InvalidArgument, "GRACE_PERIOD_OUT_OF_RANGE")
	// Two enums that are turned into each other by their numbers.
	for number, name := range policyv1.PreviewMfaPolicyResponse_Transition_name {
		require.Equal(t, name, rolloutv1.PreviewRolloutResponse_Transition_name[number])
	}
}

// watched is a watch over REST, line by line.
type watched struct {
	t     *testing.T
	lines chan string
	close func()
}

func (s *suite) watch(headers ...string) *watched {
	request := s.request(http.MethodGet, rolloutPath+":watch", nil, headers...)
	response, err := http.DefaultTransport.RoundTrip(request) //nolint:bodyclose // the cleanup below does
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	w := &watched{t: s.t, lines: make(chan string, 100), close: func() { _ = response.Body.Close() }}
	s.t.Cleanup(w.close)
	go func() {
		defer close(w.lines)
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			w.lines <- scanner.Text()
		}
	}()
	return w
}

// next returns the next line; ok is false at the end.
func (w *watched) next() (line string, ok bool) {
	w.t.Helper()
	select {
	case line, ok = <-w.lines:
		return line, ok
	case <-time.After(20 * time.Second):
		require.Fail(w.t, "no line, and no end")
		return "", false
	}
}

// nextRevision requires a rollout and returns the revision of its policy.
func (w *watched) nextRevision() string {
	w.t.Helper()
	line, ok := w.next()
	require.True(w.t, ok)
	var m struct {
		Result struct {
			Rollout struct{ Policy struct{ Revision string } }
		}
	}
	require.NoError(w.t, json.Unmarshal([]byte(line), &m), line)
	return m.Result.Rollout.Policy.Revision
}

// requireEndsWith requires an error as the last line.
func (w *watched) requireEndsWith(code codes.Code, reason string) {
	w.t.Helper()
	line, ok := w.next()
	require.True(w.t, ok)
	var m struct{ Error json.RawMessage }
	require.NoError(w.t, json.Unmarshal([]byte(line), &m))
	requireErrorBody(w.t, m.Error, code, reason)
	_, ok = w.next()
	require.False(w.t, ok)
}

func fastWatch(o *options) { o.config.WatchInterval = 10 * time.Millisecond }

func setRevision(s *suite, revision int64) {
	s.answer(policyv1.PolicyService_GetMfaPolicy_FullMethodName, &policyv1.GetMfaPolicyResponse{MfaPolicy: &policyv1.MfaPolicy{Revision: revision}})
}

func TestWatch_saysWhatChanged_andOnlyThat(t *testing.T) {
	s := newSuite(t, fastWatch)
	answerRollout(s, `{"revision":"1"}`)
	w := s.watch(bearer("admin")...)
	require.Equal(t, "1", w.nextRevision())
	// Until it has been read some more times, all alike.
	s.taken()
	require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.calls) > 12 }, 10*time.Second, time.Millisecond)
	setRevision(s, 2)
	require.Equal(t, "2", w.nextRevision())
	setRevision(s, 3)
	require.Equal(t, "3", w.nextRevision())
	require.Empty(t, w.lines)
}

func TestWatch_endsWithTheSession(t *testing.T) {
	var seconds atomic.Int64
	s := newSuite(t, fastWatch, func(o *options) {
		o.now = func() time.Time { return time.Now().Add(time.Duration(seconds.Load()) * time.Second) }
	})
	answerRollout(s, enforcedPolicy)
	w := s.watch("Cookie", "__Host-twofold=admin", "Twofold-Session", "cookie")
	require.Equal(t, "3", w.nextRevision())
	s.endSession("admin")
	seconds.Store(6)
	w.requireEndsWith(codes.Unauthenticated, "SESSION_REVOKED")
}

// That nobody hung up is no use of a session: only the call that begins to watch
// keeps it from idling out.
func TestWatch_endsWhenTheSessionIdlesOut(t *testing.T) {
	const idleLimit = 12 * time.Hour
	var elapsed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }
	s := newSuite(t, fastWatch, func(o *options) { o.now = now })
	answerRollout(s, enforcedPolicy)
	lastSeen, verdicts := now(), make(chan bool, 100) // whether each counted as a use
	s.answerWith(sessionv1.SessionService_ValidateSession_FullMethodName, func(ctx context.Context, request proto.Message) (proto.Message, error) {
		asked, _ := request.(*sessionv1.ValidateSessionRequest)
		defer func() { verdicts <- asked.GetTouch() }()
		if now().Sub(lastSeen) >= idleLimit {
			return nil, errs.New(codes.Unauthenticated, errs.ReasonSessionExpired, "The session was idle for too long.")
		}
		if asked.GetTouch() {
			lastSeen = now()
		}
		return s.validate(ctx, request)
	})
	elapsed.Store(int64(time.Hour))
	w := s.watch(bearer("admin")...)
	require.Equal(t, "3", w.nextRevision())
	require.True(t, <-verdicts, "the call that begins")
	elapsed.Store(int64(idleLimit)) // 11 hours after that, and 12 after what was before
	require.False(t, <-verdicts)
	require.Empty(t, w.lines, "it goes on")
	elapsed.Store(int64(time.Hour + idleLimit))
	w.requireEndsWith(codes.Unauthenticated, "SESSION_EXPIRED")
	require.False(t, <-verdicts)
}

func TestWatch_endsAtItsLimit(t *testing.T) {
	s := newSuite(t, fastWatch, func(o *options) { o.config.WatchLimit = 100 * time.Millisecond })
	answerRollout(s, enforcedPolicy)
	w := s.watch(bearer("admin")...)
	require.Equal(t, "3", w.nextRevision())
	_, ok := w.next()
	require.False(t, ok, "an end, and no error")
}

// A process that stops tells those who watch to come again, and does not wait
// for them to leave.
func TestWatch_endsWhenTheGatewayStops(t *testing.T) {
	s := newSuite(t, fastWatch)
	answerRollout(s, enforcedPolicy)
	w := s.watch(bearer(operatorToken)...)
	require.Equal(t, "3", w.nextRevision())
	started := time.Now()
	s.stops["rest"]()
	require.Less(t, time.Since(started), 5*time.Second)
	w.requireEndsWith(codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
	_, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.Error(t, err)
}

func TestWatch_endsWhenItsServerStops(t *testing.T) {
	s := newSuite(t, fastWatch)
	answerRollout(s, enforcedPolicy)
	w := s.watch(bearer("admin")...)
	require.Equal(t, "3", w.nextRevision())
	s.stops["gateway"]()
	w.requireEndsWith(codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
}

// Nobody reads for a caller who has left.
func TestWatch_endsWhenTheCallerLeaves(t *testing.T) {
	s := newSuite(t, fastWatch)
	answerRollout(s, enforcedPolicy)
	w := s.watch(bearer("admin")...)
	require.Equal(t, "3", w.nextRevision())
	w.close()
	require.Eventually(t, func() bool {
		s.taken()
		<-time.After(50 * time.Millisecond)
		return len(s.taken()) == 0
	}, 10*time.Second, time.Millisecond)
}

// gatePolicy lets the policy be read when the test sends a revision, once for each.
func gatePolicy(s *suite) chan int64 {
	gate := make(chan int64)
	s.answerWith(policyv1.PolicyService_GetMfaPolicy_FullMethodName, func(ctx context.Context, _ proto.Message) (proto.Message, error) {
		select {
		case revision := <-gate:
			if revision == 0 {
				return nil, errs.Unavailable(nil)
			}
			return &policyv1.GetMfaPolicyResponse{MfaPolicy: &policyv1.MfaPolicy{Revision: revision}}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return gate
}

// Whoever comes while others watch gets what was read last, at once, and costs the
// services nothing.
func TestWatch_laterWatcher_getsTheLatestReading(t *testing.T) {
	s := newSuite(t, func(o *options) { o.config.WatchInterval = time.Hour })
	answerRollout(s, enforcedPolicy)
	for range 3 {
		require.Equal(t, "3", s.watch(bearer("admin")...).nextRevision(), "and not after an interval")
	}
	require.Len(t, s.taken(), 4, "one reading")
	// They share a reading, and not what may be read.
	r := s.do(http.MethodGet, rolloutPath+":watch", "", bearer("other-admin")...)
	requireRefused(t, r, http.StatusNotFound, codes.NotFound, "RESOURCE_NOT_FOUND")
}

func TestWatch_many_shareEachReading(t *testing.T) {
	s := newSuite(t, fastWatch)
	answerRollout(s, enforcedPolicy)
	first := s.watch(bearer("admin")...)
	require.Equal(t, "3", first.nextRevision())
	second, third := s.watch(bearer("weak-admin")...), s.watch(bearer(operatorToken)...)
	for _, w := range []*watched{second, third} {
		require.Equal(t, "3", w.nextRevision())
	}
	gate := gatePolicy(s)
	gate <- 4 // one reading is all there is
	for _, w := range []*watched{first, second, third} {
		require.Equal(t, "4", w.nextRevision())
	}
	first.close() // who began it
	gate <- 5
	for _, w := range []*watched{second, third} {
		require.Equal(t, "5", w.nextRevision())
	}
	gate <- 0
	for _, w := range []*watched{second, third} {
		w.requireEndsWith(codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
	}
}

// Whoever comes after a reading that failed gets a new one, although somebody slow
// has not heard of the failure yet.
func TestWatch_afterAFailure_readsAnew(t *testing.T) {
	var elapsed atomic.Int64
	s := newSuite(t, fastWatch, func(o *options) {
		o.now = func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }
	})
	answerRollout(s, enforcedPolicy)
	verifying, goOn := make(chan struct{}), make(chan struct{})
	s.answerWith(sessionv1.SessionService_ValidateSession_FullMethodName, func(ctx context.Context, request proto.Message) (proto.Message, error) {
		if asked, _ := request.(*sessionv1.ValidateSessionRequest); !asked.GetTouch() {
			verifying <- struct{}{}
			<-goOn
		}
		return s.validate(ctx, request)
	})
	slow, other := s.watch(bearer("admin")...), s.watch(bearer(operatorToken)...)
	for _, w := range []*watched{slow, other} {
		require.Equal(t, "3", w.nextRevision())
	}
	elapsed.Store(int64(6 * time.Second))
	<-verifying
	s.fail(policyv1.PolicyService_GetMfaPolicy_FullMethodName, errs.Unavailable(nil))
	other.requireEndsWith(codes.Unavailable, "DEPENDENCY_UNAVAILABLE")
	setRevision(s, 4)
	require.Equal(t, "4", s.watch(bearer("weak-admin")...).nextRevision())
	close(goOn)
}

func TestWatch_sessionOfOneEnds_othersGoOn(t *testing.T) {
	var elapsed atomic.Int64
	s := newSuite(t, fastWatch, func(o *options) {
		o.now = func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }
	})
	answerRollout(s, enforcedPolicy)
	ending, staying := s.watch(bearer("admin")...), s.watch(bearer("weak-admin")...)
	for _, w := range []*watched{ending, staying} {
		require.Equal(t, "3", w.nextRevision())
	}
	s.endSession("admin")
	elapsed.Store(int64(6 * time.Second))
	ending.requireEndsWith(codes.Unauthenticated, "SESSION_REVOKED")
	setRevision(s, 4)
	require.Equal(t, "4", staying.nextRevision())
}
