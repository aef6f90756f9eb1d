package audit_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/gateway/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// part is a service's part of the log; the oldest first.
type part struct {
	events []*auditv1.AuditEvent
	filter *auditv1.AuditFilter // of the last call
	calls  int
	err    error
}

// add adds an event at a second.
func (p *part) add(service string, second int64) {
	p.events = append(p.events, &auditv1.AuditEvent{
		Name:    fmt.Sprintf("accounts/acme/auditEvents/%s-%d", service, len(p.events)+1),
		Service: service, Sequence: int64(len(p.events) + 1), EventTime: timestamppb.New(time.Unix(second, 0)),
		Actor: &eventv1.Actor{Kind: eventv1.Actor_AGENT}, Action: "agent.resetMfa", Result: auditv1.AuditEvent_OK,
	})
}

func (p *part) ListAuditTrail(
	_ context.Context, req *auditv1.ListAuditTrailRequest, _ ...grpc.CallOption,
) (*auditv1.ListAuditTrailResponse, error) {
	p.filter = req.GetFilter()
	p.calls++
	resp := &auditv1.ListAuditTrailResponse{}
	for _, e := range slices.Backward(p.events) {
		at, before := e.GetEventTime().AsTime(), req.GetBeforeTime().AsTime()
		follows := req.GetBeforeTime() == nil || at.Before(before) || at.Equal(before) && e.GetSequence() < req.GetBeforeSequence()
		if follows && len(resp.GetAuditEvents()) < int(req.GetPageSize()) {
			resp.AuditEvents = append(resp.AuditEvents, e)
		}
	}
	return resp, p.err
}

type accounts struct{ authv1.AccountServiceClient }

func (accounts) GetAccount(
	_ context.Context, req *authv1.GetAccountRequest, _ ...grpc.CallOption,
) (*authv1.GetAccountResponse, error) {
	if req.GetName() != "accounts/acme" {
		return nil, errs.New(codes.NotFound, errs.ReasonResourceNotFound, "No.").GRPCStatus().Err()
	}
	return &authv1.GetAccountResponse{}, nil
}

type world struct {
	t                      *testing.T
	policy, auth, notifier *part
	server                 *audit.Server
	now                    time.Time
	verified               int
	verdict                error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, policy: &part{}, auth: &part{}, notifier: &part{}, now: time.Unix(1, 0)}
	w.server = audit.New(audit.Deps{
		Trails:   map[string]auditv1.AuditTrailServiceClient{"policy": w.policy, "auth": w.auth, "notifier": w.notifier},
		Accounts: accounts{}, Now: func() time.Time { w.now = w.now.Add(3 * time.Second); return w.now },
		VerifySession: func(context.Context, string) (*authz.Person, error) { w.verified++; return &authz.Person{}, w.verdict },
	})
	return w
}

func (w *world) admin() context.Context {
	return authz.NewContext(w.t.Context(), &authz.Caller{Kind: authz.KindPerson, Person: &authz.Person{Account: "acme"}})
}

func names(events []*auditv1.AuditEvent) (all []string) {
	for _, e := range events {
		all = append(all, strings.TrimPrefix(e.GetName(), "accounts/acme/auditEvents/"))
	}
	return all
}

// pages lists all pages of a size; between is called after the first.
func (w *world) pages(size int32, between func()) (all []string) {
	w.t.Helper()
	req := &auditv1.ListAuditEventsRequest{Parent: "accounts/acme", PageSize: size, Filter: "result=OK"}
	for {
		resp, err := w.server.ListAuditEvents(w.admin(), req)
		require.NoError(w.t, err)
		require.LessOrEqual(w.t, len(resp.GetAuditEvents()), int(size))
		all = append(all, names(resp.GetAuditEvents())...)
		if req.GetPageToken() == "" && between != nil {
			between()
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

// Many events of all services at the same moments: whatever the size of the pages
// and whatever is added meanwhile, each is on one page, in one order.
func TestListAuditEvents_pagesAreStable(t *testing.T) {
	for size := int32(1); size <= 19; size++ {
		w := newWorld(t)
		for _, second := range []int64{1, 5, 5, 5, 9, 9} {
			w.policy.add("policy", second)
		}
		for _, second := range []int64{5, 5, 6, 9, 9, 9, 12} {
			w.auth.add("auth", second)
		}
		for _, second := range []int64{1, 5, 5, 9, 12} {
			w.notifier.add("notifier", second)
		}
		require.Equal(t, []string{
			"auth-7", "notifier-5", "auth-6", "auth-5", "auth-4", "notifier-4", "policy-6", "policy-5", "auth-3", "auth-2", "auth-1",
			"notifier-3", "notifier-2", "policy-4", "policy-3", "policy-2", "notifier-1", "policy-1",
		}, w.pages(size, func() {
			w.notifier.add("notifier", 13)
			w.policy.add("policy", 13)
			w.auth.add("auth", 12)
		}), size)
	}
	require.Empty(t, newWorld(t).pages(5, nil))
}

func TestListAuditEvents_whoMay(t *testing.T) {
	w := newWorld(t)
	w.auth.add("auth", 1)
	operator := authz.NewContext(t.Context(), &authz.Caller{Kind: authz.KindOperator})
	resp, err := w.server.ListAuditEvents(operator, &auditv1.ListAuditEventsRequest{Parent: "accounts/acme"})
	require.NoError(t, err)
	require.Len(t, resp.GetAuditEvents(), 1)
	before := w.auth.calls
	for _, c := range []struct {
		ctx    context.Context
		parent string
		reason string
	}{
		{w.admin(), "accounts/globex", errs.ReasonResourceNotFound},
		{operator, "accounts/globex", errs.ReasonResourceNotFound},
		{t.Context(), "accounts/acme", errs.ReasonResourceNotFound},
		{w.admin(), "acme", errs.ReasonInvalidField},
	} {
		_, err := w.server.ListAuditEvents(c.ctx, &auditv1.ListAuditEventsRequest{Parent: c.parent})
		require.Equal(t, c.reason, errs.ReasonOf(err))
	}
	require.Equal(t, before, w.auth.calls)

	// Half of the log is none of it.
	w.policy.err = errs.Unavailable(nil).GRPCStatus().Err()
	_, err = w.server.ListAuditEvents(w.admin(), &auditv1.ListAuditEventsRequest{Parent: "accounts/acme"})
	require.Equal(t, errs.ReasonDependencyUnavailable, errs.ReasonOf(err))
}

func TestListAuditEvents_tokensOfOtherQueriesAndDamagedOnes(t *testing.T) {
	w := newWorld(t)
	w.auth.add("auth", 1)
	w.auth.add("auth", 2)
	req := &auditv1.ListAuditEventsRequest{Parent: "accounts/acme", Filter: "result=OK", PageSize: 1}
	resp, err := w.server.ListAuditEvents(w.admin(), req)
	require.NoError(t, err)
	good := resp.GetNextPageToken()
	bad := []string{"x", good + "A", good[1:], good[:len(good)-1], good[:8] + "\n" + good[8:], strings.Repeat("A", 60)}
	for i := range good {
		other := byte('A')
		if good[i] == other {
			other = 'B'
		}
		bad = append(bad, good[:i]+string(other)+good[i+1:])
	}
	for _, token := range bad {
		req.PageToken = token
		_, err := w.server.ListAuditEvents(w.admin(), req)
		require.Equal(t, errs.ReasonInvalidPageToken, errs.ReasonOf(err), token)
	}
	req.PageToken, req.Filter = good, "result=DENIED"
	_, err = w.server.ListAuditEvents(w.admin(), req)
	require.Equal(t, errs.ReasonInvalidPageToken, errs.ReasonOf(err))
}

func TestListAuditEvents_filters(t *testing.T) {
	w := newWorld(t)
	list := func(filter string) error {
		_, err := w.server.ListAuditEvents(w.admin(), &auditv1.ListAuditEventsRequest{Parent: "accounts/acme", Filter: filter})
		return err
	}
	require.NoError(t, list(" actor = accounts/acme/agents/1 AND action=agent.resetMfa  AND subject=accounts/acme AND result=DENIED"+
		" AND eventTime>=2026-01-01T00:00:00Z AND eventTime<2026-02-01T01:00:00.5+01:00 "))
	want := &auditv1.AuditFilter{
		Actor: "accounts/acme/agents/1", Action: "agent.resetMfa", Subject: "accounts/acme", Result: auditv1.AuditEvent_DENIED,
		StartTime: timestamppb.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		EndTime:   timestamppb.New(time.Date(2026, 2, 1, 0, 0, 0, 500_000_000, time.UTC)),
	}
	require.True(t, proto.Equal(want, w.policy.filter), w.policy.filter)
	require.True(t, proto.Equal(want, w.auth.filter))
	for _, bad := range []string{
		"actor", "actor=", "actor=a OR action=b", "actor=a AND actor=b", "nobody=a", "actor>=a", "result=MAYBE", "result=RESULT_UNSPECIFIED",
		"result=OK AND result=OK", "eventTime=2026-01-01T00:00:00Z", "eventTime>=yesterday", "eventTime<2026-01-01", "AND", "actor=a AND",
		"actor=" + strings.Repeat("a", 201), "actor=a and action=b", "actor=a\x00b", "subject=\x7f", "action=\x1b",
		"eventTime>=2026-01-01T00:00:00Z AND eventTime>=2026-01-01T00:00:00Z",
	} {
		require.Equal(t, errs.ReasonInvalidFilter, errs.ReasonOf(list(bad)), bad)
	}
}

// stream collects a file.
type stream struct {
	grpc.ServerStream
	ctx   context.Context //nolint:containedctx // grpc.ServerStream hands its context out by a method
	parts []*auditv1.ExportAuditEventsResponse
}

func (s *stream) Context() context.Context { return s.ctx }
func (s *stream) Send(part *auditv1.ExportAuditEventsResponse) error {
	s.parts = append(s.parts, part)
	return nil
}

func (w *world) export(format auditv1.ExportAuditEventsRequest_Format) (file string, parts int, err error) {
	s := &stream{ctx: w.admin()}
	err = w.server.ExportAuditEvents(&auditv1.ExportAuditEventsRequest{Parent: "accounts/acme", Format: format}, s)
	for _, part := range s.parts {
		file += string(part.GetData())
		require.True(w.t, strings.HasSuffix(string(part.GetData()), "\n"), "whole lines")
	}
	return file, len(s.parts), err
}

func TestExportAuditEvents_everythingOnce(t *testing.T) {
	w := newWorld(t)
	const each = 1300
	for i := range int64(each) {
		w.policy.add("policy", i/7)
		w.auth.add("auth", i/5)
	}
	file, parts, err := w.export(auditv1.ExportAuditEventsRequest_JSON_LINES)
	require.NoError(t, err)
	require.Greater(t, parts, 1)
	require.Positive(t, w.verified, "who exports for long is looked at again")
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	require.Len(t, lines, 2*each)
	seen := map[string]bool{}
	for _, line := range lines {
		var e auditv1.AuditEvent
		require.NoError(t, protojson.Unmarshal([]byte(line), &e))
		seen[e.GetName()] = true
	}
	require.Len(t, seen, 2*each)

	file, _, err = w.export(auditv1.ExportAuditEventsRequest_CSV)
	require.NoError(t, err)
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+2*each)

	w.verdict = errs.New(codes.Unauthenticated, errs.ReasonSessionRevoked, "Over.")
	_, _, err = w.export(auditv1.ExportAuditEventsRequest_CSV)
	require.Equal(t, errs.ReasonSessionRevoked, errs.ReasonOf(err))
}

func TestExportAuditEvents_hostileCells(t *testing.T) {
	w := newWorld(t)
	w.auth.add("auth", 1)
	e := w.auth.events[0]
	e.Details = map[string]string{"reason": `=HYPERLINK("http://evil.example";"x")`, "b": "line\r\nbreak, \"quoted\""}
	e.ClientAddress = "2001:db8::1"
	for _, name := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "|cmd", "%0A"} {
		e.Actor.DisplayName = name
		file, _, err := w.export(auditv1.ExportAuditEventsRequest_CSV)
		require.NoError(t, err)
		rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
		require.NoError(t, err)
		row := map[string]string{}
		for i, column := range rows[0] {
			row[column] = rows[1][i]
		}
		require.Equal(t, "'"+strings.ReplaceAll(name, "\r", ""), row["actorDisplayName"]) // lines end with CR LF, and none else has a CR
		require.Equal(t, "1970-01-01T00:00:01Z", row["eventTime"])
		require.Equal(t, "2001:db8::1", row["clientAddress"])
		var details map[string]string
		require.NoError(t, json.Unmarshal([]byte(row["details"]), &details))
		require.Equal(t, e.GetDetails(), details)

		file, _, err = w.export(auditv1.ExportAuditEventsRequest_FORMAT_UNSPECIFIED)
		require.NoError(t, err)
		var back auditv1.AuditEvent
		require.NoError(t, protojson.Unmarshal([]byte(file), &back))
		require.True(t, proto.Equal(e, &back), "unchanged")
	}
	e.Actor.DisplayName = "Bob;=1+1; x;\"-2;"
	semicolons, _, err := w.export(auditv1.ExportAuditEventsRequest_CSV)
	require.NoError(t, err)
	require.Contains(t, semicolons, `,"Bob;'=1+1; x;'""-2;",`)
	e.Actor.DisplayName = "Ada O'Neil-Admin"
	file, _, err := w.export(auditv1.ExportAuditEventsRequest_CSV)
	require.NoError(t, err)
	require.Contains(t, file, ",Ada O'Neil-Admin,")
}

func TestExportAuditEvents_ofNothing(t *testing.T) {
	w := newWorld(t)
	file, _, err := w.export(auditv1.ExportAuditEventsRequest_CSV)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(file, "\n"), "the header")
	file, _, err = w.export(auditv1.ExportAuditEventsRequest_JSON_LINES)
	require.NoError(t, err)
	require.Empty(t, file)
}
