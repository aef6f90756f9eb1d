package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/twofold-auth/twofold/gen/twofold/audit/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const defaultPageSize = 50

var _ auditv1.AuditTrailServiceServer = (*trail)(nil)

// trail is the AuditTrailService of one service.
type trail struct {
	auditv1.UnsafeAuditTrailServiceServer
	db *sqldb.DB
}

// Register adds the AuditTrailService of a service to a server.
func Register(r grpc.ServiceRegistrar, db *sqldb.DB) {
	auditv1.RegisterAuditTrailServiceServer(r, &trail{db: db})
}

// ListAuditTrail lists an account's events.
func (t *trail) ListAuditTrail(
	ctx context.Context, req *auditv1.ListAuditTrailRequest,
) (*auditv1.ListAuditTrailResponse, error) {
	if !resource.IsAccountID(req.GetAccount()) {
		return nil, resource.ErrNotFound
	}
	where, args, err := conditions(req)
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	found, err := list(ctx, t.db, where+` ORDER BY event_time DESC, sequence DESC LIMIT ?`, append(args, size)...)
	if err != nil {
		return nil, fmt.Errorf("audit: list: %w", err)
	}
	resp := &auditv1.ListAuditTrailResponse{}
	for _, e := range found {
		resp.AuditEvents = append(resp.AuditEvents, e.toProto(t.db.Schema()))
	}
	return resp, nil
}

// conditions is what the request asks for, in SQL.
func conditions(req *auditv1.ListAuditTrailRequest) (where string, args []any, err error) {
	terms := []string{`account = ?`}
	args = []any{req.GetAccount()}
	add := func(wanted bool, term string, values ...any) {
		if wanted {
			terms, args = append(terms, term), append(args, values...)
		}
	}
	f := req.GetFilter()
	operator := eventv1.Actor_OPERATOR.String()
	add(f.GetActor() == operator, `actor_kind = ?`, operator)
	add(f.GetActor() != "" && f.GetActor() != operator, `actor_name = ?`, f.GetActor())
	add(f.GetAction() != "", `action = ?`, f.GetAction())
	add(f.GetSubject() != "", `subject = ?`, f.GetSubject())
	add(f.GetResult() != auditv1.AuditEvent_RESULT_UNSPECIFIED, `result = ?`, f.GetResult().String())
	for _, bound := range []struct {
		field string
		at    *timestamppb.Timestamp
		term  string
		more  []any
	}{
		{"filter.start_time", f.GetStartTime(), `event_time >= ?`, nil},
		{"filter.end_time", f.GetEndTime(), `event_time < ?`, nil},
		{"before_time", req.GetBeforeTime(), `(event_time, sequence) < (?, ?)`, []any{req.GetBeforeSequence()}},
	} {
		if bound.at != nil && bound.at.CheckValid() != nil {
			return "", nil, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.").
				WithViolation(bound.field, "It must be a time.")
		}
		add(bound.at != nil, bound.term, append([]any{microsUp(bound.at.AsTime())}, bound.more...)...)
	}
	return strings.Join(terms, ` AND `), args, nil
}

// microsUp is the first whole microsecond that is not before t: a stored time is
// before the one exactly when it is before the other.
func microsUp(t time.Time) int64 { return t.Add(time.Microsecond - time.Nanosecond).UnixMicro() }

func list(ctx context.Context, db *sqldb.DB, rest string, args ...any) ([]*event, error) {
	rows, err := db.Query(ctx, `SELECT `+columns+` FROM audit_events WHERE `+rest, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below has what there is to say
	var found []*event
	for rows.Next() {
		e, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, rows.Err()
}
