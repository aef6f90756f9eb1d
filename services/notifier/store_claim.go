package notifier

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// claim is a batch of notices that one worker holds for as long as the lease.
type claim struct {
	owner string
	// time is when it was made, by the SQL clock.
	time    time.Time
	notices []notice
	// lost are those whose last attempt was cut off with its process, for the
	// second time.
	lost []notice
}

// lostAttempt is the last error of an attempt whose process ended in the middle.
const lostAttempt = "Sending was interrupted; the mail server may have taken the mail."

// claim takes up to maxClaim due notices, the urgent ones first. A notice whose
// attempt was cut off, because its process ended or lost its lease, counts that
// attempt as one that may have been delivered.
func (s *store) claim(ctx context.Context, owner string, lease time.Duration) (claim, error) {
	c := claim{owner: owner}
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		c.time, c.notices, c.lost = now, nil, nil
		var ids []string
		for _, p := range []priority{urgent, bulk} {
			ids, err = appendDue(ctx, tx, ids, p, now)
			if err != nil {
				return err
			}
		}
		if len(ids) == 0 {
			return nil
		}
		claimed, err := takeDue(ctx, tx, ids, owner, now, now.Add(lease))
		if err != nil {
			return err
		}
		for _, n := range claimed {
			if n.state == stateUnknown {
				c.lost = append(c.lost, n)
			} else {
				c.notices = append(c.notices, n)
			}
		}
		return nil
	})
	return c, storeError("claim notices", err)
}

func appendDue(ctx context.Context, tx *sqldb.Tx, ids []string, p priority, now time.Time) ([]string, error) {
	if len(ids) >= maxClaim {
		return ids, nil
	}
	rows, err := tx.Query(ctx, `SELECT id FROM notices WHERE priority = ? AND due_time <= ?
		ORDER BY due_time LIMIT ?`+tx.SkipLocked(), int(p), sqldb.Micros(now), maxClaim-len(ids))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func takeDue(ctx context.Context, tx *sqldb.Tx, ids []string, owner string, now, until time.Time) ([]notice, error) {
	at := sqldb.Micros(now)
	args := append([]any{owner, sqldb.Micros(until), lostAttempt, at, at}, fill(ids, maxClaim)...)
	rows, err := tx.Query(ctx, `UPDATE notices SET
			lease_owner        = CASE WHEN state = 'SENDING' AND ambiguous_attempts > 0 THEN '' ELSE ? END,
			due_time           = CASE WHEN state = 'SENDING' AND ambiguous_attempts > 0 THEN NULL ELSE CAST(? AS BIGINT) END,
			failed_attempts    = failed_attempts + CASE WHEN state = 'SENDING' THEN 1 ELSE 0 END,
			ambiguous_attempts = ambiguous_attempts + CASE WHEN state = 'SENDING' THEN 1 ELSE 0 END,
			told               = told OR state = 'SENDING',
			last_error         = CASE WHEN state = 'SENDING' THEN ? ELSE last_error END,
			update_time        = CASE WHEN state = 'SENDING' THEN ? ELSE update_time END,
			first_failure_time = CASE WHEN state = 'SENDING' AND first_failure_time = 0 THEN ? ELSE first_failure_time END,
			state              = CASE WHEN state <> 'SENDING' THEN state WHEN ambiguous_attempts > 0 THEN 'UNKNOWN' ELSE 'RETRYING' END
		WHERE id IN (`+sqldb.Placeholders(maxClaim)+`) RETURNING `+noticeColumns, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var claimed []notice
	for rows.Next() {
		n, err := scanNotice(rows.Scan)
		if err != nil {
			return nil, err
		}
		claimed = append(claimed, n)
	}
	// RETURNING keeps no order. The urgent ones come first here too: with a slow mail
	// server the lease may run out before the last ones' turn.
	slices.SortFunc(claimed, func(a, b notice) int {
		if byPriority := cmp.Compare(a.priority(), b.priority()); byPriority != 0 {
			return byPriority
		}
		if byTime := a.nextAttemptTime.Compare(b.nextAttemptTime); byTime != 0 {
			return byTime
		}
		return strings.Compare(a.id, b.id)
	})
	return claimed, rows.Err()
}

// nextDue says in how long the next notice may be claimed; ok is false if none
// waits.
func (s *store) nextDue(ctx context.Context) (in time.Duration, ok bool, err error) {
	var due sql.NullInt64
	var now int64
	// One by one, each from the end of an index.
	err = s.db.QueryRow(ctx, `SELECT MIN(d.due_time), `+s.db.NowExpr()+` FROM (
		SELECT MIN(due_time) AS due_time FROM notices WHERE priority = 0 AND due_time IS NOT NULL
		UNION ALL SELECT MIN(due_time) FROM notices WHERE priority = 1 AND due_time IS NOT NULL) d`).Scan(&due, &now)
	if err != nil {
		return 0, false, storeError("look for due notices", err)
	}
	return time.Duration(due.Int64-now) * time.Microsecond, due.Valid, nil
}

// start stores that a claimed notice is being sent, to whom auth says now, unless
// the lease ran out or, for a notice about the policy, it speaks of an older
// revision than the newest one. Only when it says yes may a word be said about the
// mail.
func (s *store) start(ctx context.Context, owner string, n notice, lease time.Duration) (bool, error) {
	now := s.db.NowExpr()
	query := `UPDATE notices SET state = 'SENDING', update_time = ` + now + `, due_time = ` + now + ` + ?,
		email = ?, display_name = ?
		WHERE id = ? AND lease_owner = ? AND due_time > ` + now + ` AND state IN ('QUEUED', 'RETRYING')`
	args := []any{lease.Microseconds(), n.email, n.displayName, n.id, owner}
	if isOfPolicy(n.kind) {
		query += ` AND policy_revision = (SELECT e.revision FROM enforcements e WHERE e.account = ?)`
		args = append(args, n.account)
	}
	return s.changesOne(ctx, "start sending", query, args...)
}

// renew keeps the lease on a notice that is being sent, and says whether it was
// still held.
func (s *store) renew(ctx context.Context, owner, id string, lease time.Duration) (bool, error) {
	return s.changesOne(ctx, "renew lease", `UPDATE notices SET due_time = `+s.db.NowExpr()+` + ?
		WHERE id = ? AND lease_owner = ? AND state = 'SENDING'`, lease.Microseconds(), id, owner)
}

// settlement is what became of a notice that a worker held.
type settlement struct {
	state     state
	lastError string
	// failed and ambiguous say whether the attempt counts as one.
	failed, ambiguous bool
	told              bool
	// retryIn is when it is tried again; only for QUEUED and RETRYING.
	retryIn time.Duration
}

func (o settlement) final() bool { return o.state != stateQueued && o.state != stateRetrying }

// settle stores what became of a notice, and gives it back. It says no when the
// lease was lost: then the notice is somebody else's, and so is its state.
func (s *store) settle(ctx context.Context, owner, id string, o settlement) (bool, error) {
	now := s.db.NowExpr()
	args := []any{
		string(o.state), o.lastError, one(o.failed), one(o.ambiguous), o.told || o.ambiguous, o.failed,
		o.retryIn.Microseconds(),
	}
	due := `NULL`
	if !o.final() {
		due, args = now+` + ?`, append(args, o.retryIn.Microseconds())
	}
	return s.changesOne(ctx, "settle notice", `UPDATE notices SET state = ?, last_error = ?,
		failed_attempts = failed_attempts + ?, ambiguous_attempts = ambiguous_attempts + ?, told = told OR ?,
		first_failure_time = CASE WHEN first_failure_time = 0 AND ? THEN `+now+` ELSE first_failure_time END,
		update_time = `+now+`, next_attempt_time = `+now+` + ?, due_time = `+due+`, lease_owner = ''
		WHERE id = ? AND lease_owner = ? AND state IN ('QUEUED', 'RETRYING', 'SENDING')`,
		append(args, id, owner)...)
}

// release gives claimed notices back as they were, to be claimed again after a
// while.
func (s *store) release(ctx context.Context, owner string, notices []notice, after time.Duration) error {
	for len(notices) > 0 {
		chunk := notices[:min(maxClaim, len(notices))]
		notices = notices[len(chunk):]
		ids := make([]string, len(chunk))
		for i, n := range chunk {
			ids[i] = n.id
		}
		args := append([]any{after.Microseconds(), owner}, fill(ids, maxClaim)...)
		if _, err := s.db.Exec(ctx, `UPDATE notices SET due_time = `+s.db.NowExpr()+` + ?, lease_owner = ''
			WHERE lease_owner = ? AND state IN ('QUEUED', 'RETRYING') AND id IN (`+sqldb.Placeholders(maxClaim)+`)`, args...); err != nil {
			return storeError("release notices", err)
		}
	}
	return nil
}

// changesOne runs a statement that changes one row or none.
func (s *store) changesOne(ctx context.Context, what, query string, args ...any) (bool, error) {
	changed, err := s.commits.do(ctx, query, args...)
	if err == nil && changed > 1 {
		err = errors.New("more than one row")
	}
	return err == nil && changed == 1, storeError(what, err)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
