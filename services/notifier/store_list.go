package notifier

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// noticeQuery is which notices of an account to list.
type noticeQuery struct {
	account string
	state   state     // empty: any
	kind    mail.Kind // empty: any
	agent   string    // a bare id; empty: any
}

// place is where a page of notices ends.
type place struct {
	CreateTime int64  `json:"t"`
	ID         string `json:"i"`
}

func placeOf(n notice) place { return place{CreateTime: sqldb.Micros(n.createTime), ID: n.id} }

// list returns at most limit notices from a place on (nil for the first page),
// newest first, and how many the query matches in all.
func (s *store) list(ctx context.Context, q noticeQuery, from *place, limit int) (page []notice, total int64, err error) {
	where, args := q.where()
	if err := s.db.QueryRow(ctx, `SELECT count(*) FROM notices WHERE `+where, args...).Scan(&total); err != nil {
		return nil, 0, storeError("count notices", err)
	}
	if from != nil {
		where += ` AND (create_time, id) < (?, ?)`
		args = append(args, from.CreateTime, from.ID)
	}
	rows, err := s.db.Query(ctx, `SELECT `+noticeColumns+` FROM notices WHERE `+where+
		` ORDER BY create_time DESC, id DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, 0, storeError("list notices", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		n, err := scanNotice(rows.Scan)
		if err != nil {
			return nil, 0, storeError("list notices", err)
		}
		page = append(page, n)
	}
	return page, total, storeError("list notices", rows.Err())
}

func (q noticeQuery) where() (condition string, args []any) {
	conditions, args := []string{`account = ?`}, []any{q.account}
	if q.state != "" {
		conditions, args = append(conditions, `state = ?`), append(args, string(q.state))
	}
	if q.kind != "" {
		conditions, args = append(conditions, `kind = ?`), append(args, string(q.kind))
	}
	if q.agent != "" {
		conditions, args = append(conditions, `agent = ?`), append(args, q.agent)
	}
	return strings.Join(conditions, ` AND `), args
}

// errNotResendable: the notice is on its way, was taken, or says what no longer
// holds.
var errNotResendable = errors.New("notifier: notice not resendable")

// resend queues a notice again, as if it had never been tried. A notice of an
// enforcement that runs is told with the terms in force. The caller of ctx is whom
// the audit log names.
func (s *store) resend(ctx context.Context, account, id string) (notice, error) {
	var n notice
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		current, err := selectNotice(ctx, tx, account, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if current.state != stateFailed && current.state != stateUnknown {
			return errNotResendable
		}
		if isOfPolicy(current.kind) {
			t, err := selectTerms(ctx, tx, account, "")
			if err != nil {
				return err
			}
			if !current.stillHolds(t) {
				return errNotResendable
			}
			current.policyRevision, current.revokeTime = t.revision, t.revokeTime
		}
		now := tx.NowExpr()
		row := tx.QueryRow(ctx, `UPDATE notices SET state = 'QUEUED', priority = ?, resent = TRUE, failed_attempts = 0,
			ambiguous_attempts = 0, first_failure_time = 0, last_error = '', policy_revision = ?, revoke_time = ?,
			update_time = `+now+`, next_attempt_time = `+now+`, due_time = `+now+`, lease_owner = ''
			WHERE account = ? AND id = ? RETURNING `+noticeColumns,
			int(urgent), current.policyRevision, sqldb.Micros(current.revokeTime), account, id)
		if n, err = scanNotice(row.Scan); err != nil {
			return err
		}
		return audit.Append(ctx, tx, resentEntry(authz.FromContext(ctx), n))
	})
	return n, storeError("resend notice", err)
}

// stillHolds says whether what a notice about the policy says is still so.
func (n notice) stillHolds(t terms) bool {
	if n.kind == mail.KindEnforcementEnabled {
		return t.enforced && t.enforceTime.Equal(n.enforceTime)
	}
	return n.policyRevision == t.revision
}

// selectNotice returns a notice, or resource.ErrNotFound.
func selectNotice(ctx context.Context, q rowQuerier, account, id, lock string) (notice, error) {
	n, err := scanNotice(q.QueryRow(ctx, `SELECT `+noticeColumns+` FROM notices WHERE account = ? AND id = ?`+lock, account, id).Scan)
	if errors.Is(err, sqldb.ErrNoRows) {
		return notice{}, resource.ErrNotFound
	}
	return n, err
}

// progress is how far an enforcement's notices have come.
type progress struct {
	notices      map[state]int64
	completeTime time.Time // zero until the fan-out is complete
	told         int64
}

// progress counts the notices of the enforcement that a policy revision belongs
// to. An agent who was told twice, because the deadline moved, counts once, with
// the newer notice.
func (s *store) progress(ctx context.Context, account string, revision int64) (progress, error) {
	p := progress{notices: map[state]int64{}}
	t, err := s.terms(ctx, account)
	if err != nil {
		return p, err
	}
	enforcement, complete, err := s.enforcementOf(ctx, t, revision)
	if err != nil {
		return p, err
	}
	p.completeTime = complete
	if !enforcement.IsZero() {
		if err := s.countStates(ctx, account, enforcement, p.notices); err != nil {
			return p, err
		}
	}
	err = s.db.QueryRow(ctx, `SELECT count(DISTINCT n.agent) FROM notices n WHERE `+toLift, account, t.revision+1).Scan(&p.told)
	return p, storeError("count who was told", err)
}

// enforcementOf returns what names the enforcement of a revision, and when the
// revision's fan-out was complete. A revision whose event has not arrived yet is
// taken for a change of the enforcement that runs.
func (s *store) enforcementOf(ctx context.Context, t terms, revision int64) (enforcement, complete time.Time, err error) {
	var enforce, done int64
	err = s.db.QueryRow(ctx, `SELECT enforce_time, complete_time FROM fan_outs WHERE account = ? AND policy_revision = ?`,
		t.account, revision).Scan(&enforce, &done)
	switch {
	case errors.Is(err, sqldb.ErrNoRows) && revision > t.revision:
		return t.enforceTime, time.Time{}, nil
	case errors.Is(err, sqldb.ErrNoRows):
		return time.Time{}, time.Time{}, nil
	}
	return sqldb.FromMicros(enforce), sqldb.FromMicros(done), storeError("read fan-out", err)
}

func (s *store) countStates(ctx context.Context, account string, enforcement time.Time, into map[state]int64) error {
	var changes int
	err := s.db.QueryRow(ctx, `SELECT count(*) FROM fan_outs WHERE account = ? AND enforce_time = ?`,
		account, sqldb.Micros(enforcement)).Scan(&changes)
	if err != nil {
		return storeError("count fan-outs", err)
	}
	query := `SELECT n.state, count(*) FROM notices n WHERE n.account = ? AND n.enforce_time = ? AND n.enforce_time > 0`
	if changes > 1 {
		query += ` AND NOT EXISTS (SELECT 1 FROM notices m WHERE m.account = n.account AND m.agent = n.agent AND m.kind = n.kind
			AND m.enforce_time = n.enforce_time AND m.policy_revision > n.policy_revision)`
	}
	rows, err := s.db.Query(ctx, query+` GROUP BY n.state`, account, sqldb.Micros(enforcement))
	if err != nil {
		return storeError("count notices by state", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var st state
		var count int64
		if err := rows.Scan(&st, &count); err != nil {
			return storeError("count notices by state", err)
		}
		into[st] = count
	}
	return storeError("count notices by state", rows.Err())
}

// backlog is what waits, in all accounts.
type backlog struct {
	notices map[state]int64
	oldest  time.Duration
}

func (s *store) backlog(ctx context.Context) (backlog, error) {
	b := backlog{notices: map[state]int64{}}
	rows, err := s.db.Query(ctx, `SELECT state, count(*), `+s.db.NowExpr()+` - MIN(create_time) FROM notices
		WHERE due_time IS NOT NULL GROUP BY state`)
	if err != nil {
		return b, storeError("count backlog", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var st state
		var count, age int64
		if err := rows.Scan(&st, &count, &age); err != nil {
			return b, storeError("count backlog", err)
		}
		b.notices[st] = count
		b.oldest = max(b.oldest, time.Duration(age)*time.Microsecond)
	}
	return b, storeError("count backlog", rows.Err())
}
