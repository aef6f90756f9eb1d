package audit

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const defaultPageSize = 50

// Deps is what the gateway gives the audit log.
type Deps struct {
	// Trails are the parts of the log, by the service that keeps them.
	Trails   map[string]auditv1.AuditTrailServiceClient
	Accounts authv1.AccountServiceClient
	// VerifySession is asked again while somebody exports.
	VerifySession authz.SessionVerifier
	Now           func() time.Time
}

// Server implements AuditService.
type Server struct {
	auditv1.UnsafeAuditServiceServer
	deps     Deps
	services []string // that keep a part, sorted
}

var _ auditv1.AuditServiceServer = (*Server)(nil)

// New returns a server of the audit log.
func New(deps Deps) *Server {
	s := &Server{deps: deps}
	for service := range deps.Trails {
		s.services = append(s.services, service)
	}
	slices.Sort(s.services)
	return s
}

// Register adds the RPCs to a server.
func (s *Server) Register(r grpc.ServiceRegistrar) { auditv1.RegisterAuditServiceServer(r, s) }

// ListAuditEvents implements AuditServiceServer.
func (s *Server) ListAuditEvents(
	ctx context.Context, req *auditv1.ListAuditEventsRequest,
) (*auditv1.ListAuditEventsResponse, error) {
	account, err := s.accountOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	filter, err := parseFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	var after *place
	if req.GetPageToken() != "" {
		if after, err = s.decode(req.GetPageToken(), req.GetParent(), req.GetFilter()); err != nil {
			return nil, err
		}
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	events, more, err := s.page(ctx, account, filter, after, size)
	if err != nil {
		return nil, err
	}
	resp := &auditv1.ListAuditEventsResponse{AuditEvents: events}
	if more {
		resp.NextPageToken = encode(placeOf(events[len(events)-1]), req.GetParent(), req.GetFilter())
	}
	return resp, nil
}

// accountOf returns the account, if there is one that the caller may know of.
func (s *Server) accountOf(ctx context.Context, parent string) (string, error) {
	account, err := resource.ParseAccount("parent", parent)
	if err != nil {
		return "", err
	}
	if err := authz.FromContext(ctx).InAccount(account); err != nil {
		return "", err
	}
	if authz.FromContext(ctx).Kind == authz.KindPerson {
		return account, nil // their own
	}
	_, err = s.deps.Accounts.GetAccount(ctx, &authv1.GetAccountRequest{Name: parent})
	if err != nil {
		return "", errs.Forward(err)
	}
	return account, nil
}

// place is where an event stands in the merged log.
type place struct {
	at       time.Time
	service  string
	sequence int64
}

func placeOf(e *auditv1.AuditEvent) place {
	return place{at: e.GetEventTime().AsTime(), service: e.GetService(), sequence: e.GetSequence()}
}

// compare orders the merged log: newest first, events of one moment by service,
// and those of one service as its chain has them. No two have one place, so the
// order is the same whenever it is asked for.
func (p place) compare(q place) int {
	return cmp.Or(q.at.Compare(p.at), cmp.Compare(p.service, q.service), cmp.Compare(q.sequence, p.sequence))
}

// from is where the part of a service goes on after a place in the whole.
func (p place) from(service string) (at *timestamppb.Timestamp, sequence int64) {
	switch cmp.Compare(service, p.service) {
	case 0:
		sequence = p.sequence
	case 1: // its events of that moment come after those of the place's service
		sequence = math.MaxInt64
	}
	return timestamppb.New(p.at), sequence
}

// page returns at most size events after a place, and whether there are more.
func (s *Server) page(
	ctx context.Context, account string, filter *auditv1.AuditFilter, after *place, size int,
) (events []*auditv1.AuditEvent, more bool, err error) {
	parts := make([][]*auditv1.AuditEvent, len(s.services))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, service := range s.services {
		req := &auditv1.ListAuditTrailRequest{
			Account: account, Filter: filter, PageSize: int32(size + 1), //nolint:gosec // a page
		}
		if after != nil {
			req.BeforeTime, req.BeforeSequence = after.from(service)
		}
		group.Go(func() error {
			resp, err := s.deps.Trails[service].ListAuditTrail(groupCtx, req)
			parts[i] = resp.GetAuditEvents()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, errs.Forward(err)
	}
	events = slices.Concat(parts...)
	slices.SortFunc(events, func(a, b *auditv1.AuditEvent) int { return placeOf(a).compare(placeOf(b)) })
	if len(events) > size {
		return events[:size], true, nil
	}
	return events, false, nil
}
