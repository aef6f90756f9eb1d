package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

const auditPath = "/v1/accounts/acme/auditEvents"

// answerTrails lets policy, auth and notifier have n events each; fails is asked before.
func answerTrails(s *suite, n int64, fails func(before int64) error) {
	for _, service := range []string{"policy", "auth", "notifier"} {
		s.answerWith(service+auditv1.AuditTrailService_ListAuditTrail_FullMethodName,
			func(_ context.Context, request proto.Message) (proto.Message, error) {
				req, _ := request.(*auditv1.ListAuditTrailRequest)
				top := n
				if req.GetBeforeTime() != nil {
					top = min(n, req.GetBeforeTime().GetSeconds())
				}
				if fails != nil {
					if err := fails(top); err != nil {
						return nil, err
					}
				}
				resp := &auditv1.ListAuditTrailResponse{}
				for i := top; i > 0 && len(resp.GetAuditEvents()) < int(req.GetPageSize()); i-- {
					if req.GetBeforeTime() != nil && i == req.GetBeforeTime().GetSeconds() && i >= req.GetBeforeSequence() {
						continue
					}
					resp.AuditEvents = append(resp.AuditEvents, &auditv1.AuditEvent{
						Name: fmt.Sprintf("accounts/acme/auditEvents/%s-%d", service, i), Service: service, Sequence: i,
						EventTime: timestamppb.New(time.Unix(i, 0)), Actor: &eventv1.Actor{DisplayName: "=1"}, Action: "agent.resetMfa",
						Details: map[string]string{"reason": strings.Repeat("x", 1000)},
					})
				}
				return resp, nil
			})
	}
}

func TestAudit_isMergedAndPaged(t *testing.T) {
	s := newSuite(t)
	answerTrails(s, 5, nil)
	var found []string
	token := ""
	for {
		r := s.do(http.MethodGet, auditPath+"?pageSize=3&pageToken="+token, "", bearer("admin")...)
		require.Equal(t, http.StatusOK, r.StatusCode, string(r.body))
		var page struct {
			AuditEvents   []struct{ Name string }
			NextPageToken string
		}
		require.NoError(t, json.Unmarshal(r.body, &page))
		for _, e := range page.AuditEvents {
			found = append(found, strings.TrimPrefix(e.Name, "accounts/acme/auditEvents/"))
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	require.Equal(t, []string{
		"auth-5", "notifier-5", "policy-5", "auth-4", "notifier-4", "policy-4", "auth-3", "notifier-3", "policy-3",
		"auth-2", "notifier-2", "policy-2", "auth-1", "notifier-1", "policy-1",
	}, found)
	requireRefused(t, s.do(http.MethodGet, auditPath, "", bearer("agent")...),
		http.StatusForbidden, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	requireRefused(t, s.do(http.MethodGet, auditPath, "", bearer("other-admin")...),
		http.StatusNotFound, codes.NotFound, errs.ReasonResourceNotFound)
	requireRefused(t, s.do(http.MethodGet, auditPath+"?filter=nonsense", "", bearer("admin")...),
		http.StatusBadRequest, codes.InvalidArgument, errs.ReasonInvalidFilter)
	requireRefused(t, s.do(http.MethodGet, auditPath+"?pageToken=nonsense", "", bearer("admin")...),
		http.StatusBadRequest, codes.InvalidArgument, errs.ReasonInvalidPageToken)
}

func TestAudit_exportIsTheFileItself(t *testing.T) {
	s := newSuite(t)
	answerTrails(s, 600, nil)
	r := s.do(http.MethodGet, auditPath+":export?format=CSV", "", bearer("admin")...)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Equal(t, "text/csv; charset=utf-8; header=present", r.Header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="audit-events.csv"`, r.Header.Get("Content-Disposition"))
	require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	lines := bytes.Split(bytes.TrimSuffix(r.body, []byte("\r\n")), []byte("\r\n"))
	require.Len(t, lines, 1+1800)
	require.True(t, bytes.HasPrefix(lines[0], []byte("eventTime,actorKind,")))
	require.Contains(t, string(lines[1]), ",'=1,")

	r = s.do(http.MethodGet, auditPath+":export", "", bearer("admin")...)
	require.Equal(t, "application/jsonl; charset=utf-8", r.Header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="audit-events.jsonl"`, r.Header.Get("Content-Disposition"))
	scanner := bufio.NewScanner(bytes.NewReader(r.body))
	count := 0
	for scanner.Scan() {
		require.True(t, strings.HasPrefix(scanner.Text(), `{"name":"accounts/acme/auditEvents/`), scanner.Text())
		count++
	}
	require.Equal(t, 1800, count)

	answerTrails(s, 0, nil)
	r = s.do(http.MethodGet, auditPath+":export?format=JSON_LINES", "", bearer("admin")...)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Empty(t, r.body)

	requireRefused(t, s.do(http.MethodGet, auditPath+":export?format=CSV", "", bearer("agent")...),
		http.StatusForbidden, codes.PermissionDenied, errs.ReasonCallerNotPermitted)
	requireRefused(t, s.do(http.MethodGet, auditPath+":export?format=XML", "", bearer("admin")...),
		http.StatusBadRequest, codes.InvalidArgument, errs.ReasonInvalidField)
}

// A file that could not be completed does not look complete.
func TestAudit_exportThatFails(t *testing.T) {
	s := newSuite(t)
	down := func(int64) error { return errs.Unavailable(nil) }
	answerTrails(s, 600, down)
	requireRefused(t, s.do(http.MethodGet, auditPath+":export?format=CSV", "", bearer("admin")...),
		http.StatusServiceUnavailable, codes.Unavailable, errs.ReasonDependencyUnavailable)

	answerTrails(s, 600, func(top int64) error {
		if top < 200 {
			return errs.Unavailable(nil)
		}
		return nil
	})
	for _, format := range []string{"CSV", "JSON_LINES"} {
		req := s.request(http.MethodGet, auditPath+":export?format="+format, nil, bearer("admin")...)
		resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotContains(t, string(body), "DEPENDENCY_UNAVAILABLE")
		require.NoError(t, resp.Body.Close())
	}
}
