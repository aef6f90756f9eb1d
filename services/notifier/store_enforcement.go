package notifier

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// rowQuerier is a sqldb.DB or a sqldb.Tx.
type rowQuerier interface {
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

const termsColumns = `account, revision, enforced, enforce_time, session_revoke_time, apply_to_sso, change_time, changed_by, enabled_by`

// terms returns what is known of an account's enforcement; the zero terms when
// nothing is.
func (s *store) terms(ctx context.Context, account string) (terms, error) {
	t, err := selectTerms(ctx, s.db, account, "")
	return t, storeError("read enforcement", err)
}

func selectTerms(ctx context.Context, q rowQuerier, account, lock string) (terms, error) {
	t := terms{account: account}
	var enforce, revoke, change int64
	var changedBy, enabledBy string
	err := q.QueryRow(ctx, `SELECT `+termsColumns+` FROM enforcements WHERE account = ?`+lock, account).
		Scan(&t.account, &t.revision, &t.enforced, &enforce, &revoke, &t.applyToSSO, &change, &changedBy, &enabledBy)
	if errors.Is(err, sqldb.ErrNoRows) {
		return t, nil
	}
	if err != nil {
		return terms{}, err
	}
	t.enforceTime, t.revokeTime, t.changeTime = sqldb.FromMicros(enforce), sqldb.FromMicros(revoke), sqldb.FromMicros(change)
	return t, errors.Join(json.Unmarshal([]byte(changedBy), &t.changedBy), json.Unmarshal([]byte(enabledBy), &t.enabledBy))
}

// learn stores the terms of an event, ends the fan-outs of older revisions and
// begins its own. It says no when the terms are no news, and then changes nothing.
func (s *store) learn(ctx context.Context, news terms, eventID string) (isNews bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		// So that there is a row to lock.
		if _, err := tx.Exec(ctx, `INSERT INTO enforcements (`+termsColumns+`)
			VALUES (?, 0, FALSE, 0, 0, FALSE, 0, '{}', '{}') ON CONFLICT (account) DO NOTHING`, news.account); err != nil {
			return err
		}
		known, err := selectTerms(ctx, tx, news.account, tx.ForUpdate())
		if err != nil {
			return err
		}
		var next terms
		if next, isNews = known.after(news); !isNews {
			return nil
		}
		if err := updateTerms(ctx, tx, next); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE fan_outs SET due_time = NULL, lease_owner = ''
			WHERE account = ? AND policy_revision < ? AND due_time IS NOT NULL`, next.account, next.revision); err != nil {
			return err
		}
		f := next.fanOut(eventID)
		_, err = tx.Exec(ctx, `INSERT INTO fan_outs (account, policy_revision, kind, event_id, enforce_time,
			last_agent, agents, notices, create_time, complete_time, due_time, lease_owner)
			VALUES (?, ?, ?, ?, ?, '', 0, 0, `+tx.NowExpr()+`, 0, `+tx.NowExpr()+`, '') ON CONFLICT (account, policy_revision) DO NOTHING`,
			f.account, f.revision, string(f.kind), f.eventID, sqldb.Micros(f.enforceTime))
		return err
	})
	return isNews, storeError("learn of enforcement", err)
}

func updateTerms(ctx context.Context, tx *sqldb.Tx, t terms) error {
	changedBy, err := encode(t.changedBy)
	if err != nil {
		return err
	}
	enabledBy, err := encode(t.enabledBy)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE enforcements SET revision = ?, enforced = ?, enforce_time = ?, session_revoke_time = ?,
		apply_to_sso = ?, change_time = ?, changed_by = ?, enabled_by = ? WHERE account = ?`,
		t.revision, t.enforced, sqldb.Micros(t.enforceTime), sqldb.Micros(t.revokeTime), t.applyToSSO,
		sqldb.Micros(t.changeTime), changedBy, enabledBy, t.account)
	return err
}

// claimFanOut takes a fan-out that is due; ok is false if none is.
func (s *store) claimFanOut(ctx context.Context, owner string, lease time.Duration) (f fanOut, ok bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		f = fanOut{leaseOwner: owner}
		var enforce int64
		err = tx.QueryRow(ctx, `SELECT account, policy_revision, kind, event_id, enforce_time, last_agent FROM fan_outs
			WHERE due_time <= ? ORDER BY due_time LIMIT 1`+tx.SkipLocked(), sqldb.Micros(now)).
			Scan(&f.account, &f.revision, &f.kind, &f.eventID, &enforce, &f.lastAgent)
		if ok = !errors.Is(err, sqldb.ErrNoRows); !ok {
			return nil
		}
		if err != nil {
			return err
		}
		f.enforceTime = sqldb.FromMicros(enforce)
		_, err = tx.Exec(ctx, `UPDATE fan_outs SET due_time = ?, lease_owner = ? WHERE account = ? AND policy_revision = ?`,
			sqldb.Micros(now.Add(lease)), owner, f.account, f.revision)
		return err
	})
	return f, ok && err == nil, storeError("claim fan-out", err)
}

// fanOutDue says whether a fan-out may be claimed.
func (s *store) fanOutDue(ctx context.Context) (bool, error) {
	var due int
	err := s.db.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM fan_outs WHERE due_time <= `+s.db.NowExpr()+` LIMIT 1) d`).Scan(&due)
	return due > 0, storeError("look for fan-outs", err)
}

const heldFanOut = ` WHERE account = ? AND policy_revision = ? AND lease_owner = ? AND due_time IS NOT NULL`

func (f fanOut) held() []any { return []any{f.account, f.revision, f.leaseOwner} }

// savePage queues a page's notices and moves the fan-out on, together. It says no
// when the lease was lost or the fan-out superseded; then nothing is saved.
func (s *store) savePage(ctx context.Context, f fanOut, last string, seen int, notices []notice, lease time.Duration) (inserted int64, held bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `UPDATE fan_outs SET last_agent = ?, agents = agents + ?, due_time = `+tx.NowExpr()+` + ?`+heldFanOut,
			append([]any{last, seen, lease.Microseconds()}, f.held()...)...)
		if err != nil {
			return err
		}
		changed, err := res.RowsAffected()
		if held = changed == 1; err != nil || !held {
			return err
		}
		if inserted, err = insertNotices(ctx, tx, notices); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE fan_outs SET notices = notices + ?`+heldFanOut, append([]any{inserted}, f.held()...)...)
		return err
	})
	return inserted, held, storeError("save page", err)
}

// completeFanOut ends a fan-out: every agent to be told has a notice.
func (s *store) completeFanOut(ctx context.Context, f fanOut) (bool, error) {
	return s.changesOne(ctx, "complete fan-out", `UPDATE fan_outs SET complete_time = `+s.db.NowExpr()+`, due_time = NULL, lease_owner = ''`+
		heldFanOut, f.held()...)
}

// releaseFanOut gives a fan-out back, to be claimed again after a while.
func (s *store) releaseFanOut(ctx context.Context, f fanOut, after time.Duration) error {
	_, err := s.changesOne(ctx, "release fan-out", `UPDATE fan_outs SET due_time = `+s.db.NowExpr()+` + ?, lease_owner = ''`+heldFanOut,
		append([]any{after.Microseconds()}, f.held()...)...)
	return err
}

// suppressOlder ends at most limit waiting notices about older revisions of an
// account's policy, and says how many there were.
func (s *store) suppressOlder(ctx context.Context, account string, revision int64, limit int) (suppressed int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `UPDATE notices SET state = 'SUPPRESSED', due_time = NULL, lease_owner = '', update_time = `+tx.NowExpr()+`
			WHERE id IN (SELECT id FROM notices WHERE account = ? AND policy_revision > 0 AND policy_revision < ?
				AND due_time IS NOT NULL AND state IN ('QUEUED', 'RETRYING') LIMIT ?`+tx.SkipLocked()+`)`, account, revision, limit)
		if err != nil {
			return err
		}
		suppressed, err = res.RowsAffected()
		return err
	})
	return suppressed, storeError("suppress older notices", err)
}

// earliestTold returns, for the agents with ids after one and up to another, the
// earliest deadline of the enforcement that they were told or could not be told.
func (s *store) earliestTold(ctx context.Context, f fanOut, after, last string) (map[string]time.Time, error) {
	rows, err := s.db.Query(ctx, `SELECT agent, MIN(revoke_time) FROM notices
		WHERE account = ? AND agent > ? AND agent <= ? AND kind = 'ENFORCEMENT_ENABLED' AND enforce_time = ? AND policy_revision < ?
		AND (told OR state = 'FAILED') GROUP BY agent`,
		f.account, after, last, sqldb.Micros(f.enforceTime), f.revision)
	if err != nil {
		return nil, storeError("read who was told", err)
	}
	defer func() { _ = rows.Close() }()
	earliest := map[string]time.Time{}
	for rows.Next() {
		var agent string
		var revoke int64
		if err := rows.Scan(&agent, &revoke); err != nil {
			return nil, storeError("read who was told", err)
		}
		earliest[agent] = sqldb.FromMicros(revoke)
	}
	return earliest, storeError("read who was told", rows.Err())
}

// toLift is the notices by which an agent n knows of an enforcement, and of
// nothing later. A notice that is being sent right now counts; its outcome decides
// when the agent's turn comes.
const toLift = `n.account = ? AND n.kind = 'ENFORCEMENT_ENABLED' AND n.policy_revision < ? AND (n.told OR n.state = 'SENDING')
	AND NOT EXISTS (SELECT 1 FROM notices l WHERE l.account = n.account AND l.agent = n.agent
		AND l.kind = 'ENFORCEMENT_LIFTED' AND l.policy_revision > n.policy_revision AND l.told)`

// lifted returns a page of the agents to be told that enforcement was lifted, by
// agent id.
func (s *store) lifted(ctx context.Context, f fanOut, limit int) ([]notice, error) {
	rows, err := s.db.Query(ctx, `SELECT n.agent, MAX(n.email), MAX(n.display_name) FROM notices n
		WHERE `+toLift+` AND n.agent > ? GROUP BY n.agent ORDER BY n.agent LIMIT ?`, f.account, f.revision, f.lastAgent, limit)
	if err != nil {
		return nil, storeError("read who is to be told", err)
	}
	defer func() { _ = rows.Close() }()
	var page []notice
	for rows.Next() {
		n := notice{account: f.account, kind: f.kind, eventID: f.eventID, policyRevision: f.revision}
		if err := rows.Scan(&n.agent, &n.email, &n.displayName); err != nil {
			return nil, storeError("read who is to be told", err)
		}
		page = append(page, n)
	}
	return page, storeError("read who is to be told", rows.Err())
}

// history returns what agents were told about the policy, or are being told, by
// agent id.
func (s *store) history(ctx context.Context, account string, agents []string) (map[string][]told, error) {
	args := append([]any{account}, fill(agents, maxClaim)...)
	rows, err := s.db.Query(ctx, `SELECT agent, id, kind, NOT told, policy_revision, enforce_time, revoke_time FROM notices
		WHERE account = ? AND agent IN (`+sqldb.Placeholders(maxClaim)+`) AND kind IN ('ENFORCEMENT_ENABLED', 'ENFORCEMENT_LIFTED')
		AND (told OR state = 'SENDING')`, args...)
	if err != nil {
		return nil, storeError("read what agents were told", err)
	}
	defer func() { _ = rows.Close() }()
	history := map[string][]told{}
	for rows.Next() {
		var agent string
		var h told
		var enforce, revoke int64
		if err := rows.Scan(&agent, &h.id, &h.kind, &h.sending, &h.policyRevision, &enforce, &revoke); err != nil {
			return nil, storeError("read what agents were told", err)
		}
		h.enforceTime, h.revokeTime = sqldb.FromMicros(enforce), sqldb.FromMicros(revoke)
		history[agent] = append(history[agent], h)
	}
	return history, storeError("read what agents were told", rows.Err())
}
