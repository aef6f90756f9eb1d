package notifier

import (
	"context"
	"errors"
	"math"

	"google.golang.org/grpc/codes"

	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const defaultPageSize = 50

var _ notifierv1.NoticeServiceServer = (*server)(nil)

// server is the NoticeService.
type server struct {
	notifierv1.UnsafeNoticeServiceServer

	store      *store
	pageTokens *pagetoken.Codec
	notices    *bell // rung when a notice is queued again
	metrics    *metrics
}

// ListNotices returns the notices of an account.
func (s *server) ListNotices(ctx context.Context, req *notifierv1.ListNoticesRequest) (*notifierv1.ListNoticesResponse, error) {
	account, err := resource.ParseAccount("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	if err := authz.FromContext(ctx).InAccount(account); err != nil {
		return nil, err
	}
	query, nobody, err := newNoticeQuery(account, req.GetFilter())
	if err != nil {
		return nil, err
	}
	bound := pagetoken.Query{
		Method: notifierv1.NoticeService_ListNotices_FullMethodName, Parent: req.GetParent(), Filter: req.GetFilter(),
	}
	var from *place
	if req.GetPageToken() != "" {
		from = &place{}
		if err := s.pageTokens.Decode(req.GetPageToken(), bound, from); err != nil {
			return nil, err
		}
	}
	if nobody {
		return &notifierv1.ListNoticesResponse{}, nil
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	page, total, err := s.store.list(ctx, query, from, size+1)
	if err != nil {
		return nil, err
	}
	resp := &notifierv1.ListNoticesResponse{TotalSize: int32(min(total, math.MaxInt32))} //nolint:gosec // bounded here
	for _, n := range page[:min(size, len(page))] {
		resp.Notices = append(resp.Notices, toProto(n))
	}
	if len(page) > size {
		resp.NextPageToken, err = s.pageTokens.Encode(bound, placeOf(page[size-1]))
	}
	return resp, err
}

// ResendNotice queues a notice again.
func (s *server) ResendNotice(ctx context.Context, req *notifierv1.ResendNoticeRequest) (*notifierv1.ResendNoticeResponse, error) {
	account, id, err := parseNotice("name", req.GetName())
	if err != nil {
		return nil, err
	}
	if err := authz.FromContext(ctx).InAccount(account); err != nil {
		return nil, err
	}
	n, err := s.store.resend(ctx, account, id)
	if errors.Is(err, errNotResendable) {
		return nil, errs.New(codes.FailedPrecondition, errs.ReasonNoticeNotResendable,
			"Only a notice that failed or whose delivery is unknown, and that still holds, can be sent again.")
	}
	if err != nil {
		return nil, err
	}
	s.metrics.count(n.kind, stateQueued, 1)
	s.notices.ring()
	return &notifierv1.ResendNoticeResponse{Notice: toProto(n)}, nil
}

// CountNotices says how far the notices of an enforcement have come.
func (s *server) CountNotices(ctx context.Context, req *notifierv1.CountNoticesRequest) (*notifierv1.CountNoticesResponse, error) {
	invalid := errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.")
	switch {
	case !resource.IsAccountID(req.GetAccount()):
		return nil, invalid.WithViolation("account", "It must be the bare id of an account.")
	case req.GetPolicyRevision() < 0:
		return nil, invalid.WithViolation("policy_revision", "It must not be negative.")
	}
	p, err := s.store.progress(ctx, req.GetAccount(), req.GetPolicyRevision())
	if err != nil {
		return nil, err
	}
	resp := &notifierv1.CountNoticesResponse{
		Told: p.told, FanOutComplete: !p.completeTime.IsZero(), FanOutCompleteTime: timestamp(p.completeTime),
	}
	for _, st := range states() {
		if count := p.notices[st]; count > 0 {
			resp.Counts = append(resp.Counts, &notifierv1.CountNoticesResponse_Count{State: st.toProto(), Notices: count})
		}
	}
	return resp, nil
}
