package notifier

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// store keeps the service's rows. Its methods are whole: each is one transaction
// or one statement, and leaves nothing half done.
type store struct {
	db      *sqldb.DB
	commits *committer
}

func newStore(db *sqldb.DB) *store { return &store{db: db, commits: &committer{db: db}} }

const noticeColumns = `id, account, kind, event_id, agent, email, display_name, state, facts,
	policy_revision, enforce_time, revoke_time, create_time, update_time, next_attempt_time,
	failed_attempts, ambiguous_attempts, first_failure_time, resent, last_error`

// scanNotice reads noticeColumns.
func scanNotice(scan func(...any) error) (notice, error) {
	var n notice
	var said string
	var enforce, revoke, create, update, next, firstFailure int64
	err := scan(&n.id, &n.account, &n.kind, &n.eventID, &n.agent, &n.email, &n.displayName, &n.state, &said,
		&n.policyRevision, &enforce, &revoke, &create, &update, &next,
		&n.failedAttempts, &n.ambiguousAttempts, &firstFailure, &n.resent, &n.lastError)
	if err != nil {
		return notice{}, err
	}
	if err := json.Unmarshal([]byte(said), &n.facts); err != nil {
		return notice{}, fmt.Errorf("facts of notice %s: %w", n.id, err)
	}
	n.enforceTime, n.revokeTime = sqldb.FromMicros(enforce), sqldb.FromMicros(revoke)
	n.createTime, n.updateTime, n.nextAttemptTime = sqldb.FromMicros(create), sqldb.FromMicros(update), sqldb.FromMicros(next)
	n.firstFailureTime = sqldb.FromMicros(firstFailure)
	return n, nil
}

// insertChunk is how many notices one statement inserts.
const insertChunk = 200

// insertRow is one row of insertNotices; the columns with a constant begin life
// with it.
const (
	insertColumns = `id, account, kind, event_id, agent, email, display_name, state, priority, facts,
		policy_revision, enforce_time, revoke_time, create_time, update_time, next_attempt_time, due_time,
		lease_owner, failed_attempts, ambiguous_attempts, first_failure_time, told, resent, last_error`
	insertRow = `(?, ?, ?, ?, ?, ?, ?, 'QUEUED', ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, 0, FALSE, FALSE, '')`
)

// insertNotices queues notices, and says how many of them are new: an agent has
// one notice for each event.
func insertNotices(ctx context.Context, tx *sqldb.Tx, notices []notice) (inserted int64, err error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return 0, err
	}
	at := sqldb.Micros(now)
	for len(notices) > 0 {
		chunk := notices[:min(insertChunk, len(notices))]
		notices = notices[len(chunk):]
		rows := make([]byte, 0, len(chunk)*(len(insertRow)+2))
		args := make([]any, 0, len(chunk)*16)
		for i, n := range chunk {
			id, err := uuid.NewV7()
			if err != nil {
				return 0, fmt.Errorf("notice id: %w", err)
			}
			said, err := encode(n.facts)
			if err != nil {
				return 0, fmt.Errorf("facts: %w", err)
			}
			if i > 0 {
				rows = append(rows, ", "...)
			}
			rows = append(rows, insertRow...)
			args = append(args, id.String(), n.account, string(n.kind), n.eventID, n.agent, n.email, n.displayName,
				int(n.priority()), said, n.policyRevision, sqldb.Micros(n.enforceTime), sqldb.Micros(n.revokeTime),
				at, at, at, at)
		}
		res, err := tx.Exec(ctx, `INSERT INTO notices (`+insertColumns+`) VALUES `+string(rows)+
			` ON CONFLICT (event_id, agent) DO NOTHING`, args...)
		if err != nil {
			return 0, err
		}
		changed, err := res.RowsAffected()
		if err != nil {
			return 0, err
		}
		inserted += changed
	}
	return inserted, nil
}

// queue queues one notice, and says whether it is new.
func (s *store) queue(ctx context.Context, n notice) (isNew bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		inserted, err := insertNotices(ctx, tx, []notice{n})
		isNew = inserted > 0
		return err
	})
	return isNew, storeError("queue notice", err)
}

// queueAll queues notices, and says how many of them are new.
func (s *store) queueAll(ctx context.Context, notices []notice) (queued int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		queued, err = insertNotices(ctx, tx, notices)
		return err
	})
	return queued, storeError("queue notices", err)
}

// has says whether an agent has a notice of an event.
func (s *store) has(ctx context.Context, eventID, agent string) (bool, error) {
	var found int
	err := s.db.QueryRow(ctx, `SELECT count(*) FROM notices WHERE event_id = ? AND agent = ?`, eventID, agent).Scan(&found)
	return found > 0, storeError("look for notice", err)
}

// suppressEnabled ends an agent's waiting notices of enforcement.
func (s *store) suppressEnabled(ctx context.Context, account, agent string) (suppressed int64, err error) {
	res, err := s.db.Exec(ctx, `UPDATE notices SET state = 'SUPPRESSED', due_time = NULL, lease_owner = '', update_time = `+s.db.NowExpr()+`
		WHERE account = ? AND agent = ? AND kind = 'ENFORCEMENT_ENABLED' AND state IN ('QUEUED', 'RETRYING')`, account, agent)
	if err != nil {
		return 0, storeError("suppress notices of agent", err)
	}
	suppressed, err = res.RowsAffected()
	return suppressed, storeError("suppress notices of agent", err)
}

// removeOld removes at most limit notices that ended before retention, and says
// how many there were. Those of an enforcement that still runs stay: they say who
// is to be told when it is lifted.
func (s *store) removeOld(ctx context.Context, retention time.Duration, limit int) (removed int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `DELETE FROM notices WHERE id IN (
			SELECT n.id FROM notices n WHERE n.due_time IS NULL AND n.update_time <= `+tx.NowExpr()+` - ?
			AND NOT EXISTS (SELECT 1 FROM enforcements e WHERE e.account = n.account AND e.enforced AND e.enforce_time = n.enforce_time)
			ORDER BY n.update_time LIMIT ?)`, retention.Microseconds(), limit)
		if err != nil {
			return err
		}
		removed, err = res.RowsAffected()
		return err
	})
	return removed, storeError("remove old notices", err)
}

// storeError says, for the log, what failed.
func storeError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("notifier: %s: %w", what, err)
}

// fill returns the arguments of an IN list of a fixed length: one statement for all
// of them, filled up by repetition.
func fill[T any](values []T, length int) []any {
	args := make([]any, 0, length)
	for i := range length {
		args = append(args, values[min(i, len(values)-1)])
	}
	return args
}
