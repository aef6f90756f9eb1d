package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// policy is an account's policy as it is stored.
type policy struct {
	enforcement.Policy
	account    string
	updateTime time.Time
	// endedRevokeTime is the deadline of the enforcement that was switched off
	// last; zero if none was.
	endedRevokeTime time.Time
}

// actor is who saved a revision.
type actor struct {
	kind              eventv1.Actor_Kind
	name, displayName string
}

// revision is a policy as it was saved once.
type revision struct {
	policy
	actor
	// previousRevokeTime is set at a re-enabling.
	previousRevokeTime time.Time
}

// store keeps policies in SQL. A change, its revision, its event, its place in the
// audit log and the memory of its request are one transaction, which the store
// owns.
type store struct {
	db *sqldb.DB
}

// update is one request to change a policy.
type update struct {
	account     string
	request     idempotency.Key
	fingerprint idempotency.Fingerprint
	by          actor
	// decide is pure and may run more than once.
	decide func(current policy, now time.Time) (outcome, error)
}

// updated is what became of it.
type updated struct {
	answer *policyv1.UpdateMfaPolicyResponse
	// transition is empty for a request that was answered before.
	transition enforcement.Transition
}

const policyColumns = `account, revision, enforced, grace_period, apply_to_sso, enforce_time, update_time`

// create gives an account its first policy. An account that has one keeps it.
func (s *store) create(ctx context.Context, account string, settings enforcement.Settings, by actor) (policy, error) {
	var p policy
	err := s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		first := policy{
			Policy:  enforcement.Policy{Settings: settings, Revision: 1},
			account: account, updateTime: now,
		}
		res, err := tx.Exec(ctx, `INSERT INTO mfa_policies (`+policyColumns+`, ended_revoke_time)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account) DO NOTHING`, append(columnsOf(first), 0)...)
		if err != nil {
			return err
		}
		inserted, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if inserted == 0 {
			p, err = selectPolicy(ctx, tx, account, "")
			return err
		}
		p = first
		if err := insertRevision(ctx, tx, revision{policy: first, actor: by}); err != nil {
			return err
		}
		return audit.Append(ctx, tx, createdEntry(first, by))
	})
	return p, storeError("create policy", err)
}

// get returns the policy in force, or resource.ErrNotFound.
func (s *store) get(ctx context.Context, account string) (policy, error) {
	p, err := selectPolicy(ctx, s.db, account, "")
	return p, storeError("get policy", err)
}

// preview returns what a change would do now.
func (s *store) preview(ctx context.Context, account string,
	decide func(current policy, now time.Time) (outcome, error),
) (outcome, error) {
	current, err := s.get(ctx, account)
	if err != nil {
		return outcome{}, err
	}
	now, err := s.db.Now(ctx)
	if err != nil {
		return outcome{}, storeError("preview policy", err)
	}
	return decide(current, now)
}

// update changes a policy. Of changes at the same time one comes first, and the
// others are decided on what it saved.
func (s *store) update(ctx context.Context, u update) (updated, error) {
	result := updated{answer: &policyv1.UpdateMfaPolicyResponse{}}
	found, err := idempotency.Once(ctx, s.db, u.request, u.fingerprint, result.answer,
		func(ctx context.Context, tx *sqldb.Tx) error {
			done, err := saveChange(ctx, tx, u)
			if err != nil {
				return err
			}
			result.transition = done.transition
			result.answer.MfaPolicy = toProto(done.next)
			return nil
		})
	if found {
		result.transition = "" // of an attempt that another request overtook
	}
	return result, storeError("update policy", err)
}

func saveChange(ctx context.Context, tx *sqldb.Tx, u update) (outcome, error) {
	current, err := selectPolicy(ctx, tx, u.account, tx.ForUpdate())
	if err != nil {
		return outcome{}, err
	}
	// After the lock: whoever waited for it decides with the time of its turn.
	now, err := tx.Now(ctx)
	if err != nil {
		return outcome{}, err
	}
	o, err := u.decide(current, now)
	if err != nil || o.transition == enforcement.Unchanged {
		return o, err
	}
	if err := updatePolicy(ctx, tx, o); err != nil {
		return outcome{}, err
	}
	saved := revision{policy: o.next, actor: u.by}
	if o.transition == enforcement.Enabled {
		saved.previousRevokeTime = o.current.endedRevokeTime
	}
	if err := insertRevision(ctx, tx, saved); err != nil {
		return outcome{}, err
	}
	event, told, err := eventOf(o, u.by)
	if err != nil {
		return o, err
	}
	if told {
		if err := outbox.Append(ctx, tx, event); err != nil {
			return o, err
		}
	}
	return o, audit.Append(ctx, tx, updatedEntry(o, u.by))
}

func updatePolicy(ctx context.Context, tx *sqldb.Tx, o outcome) error {
	res, err := tx.Exec(ctx, `UPDATE mfa_policies SET revision = ?, enforced = ?, grace_period = ?, apply_to_sso = ?,
		enforce_time = ?, update_time = ?, ended_revoke_time = ? WHERE account = ? AND revision = ?`,
		append(columnsOf(o.next)[1:], sqldb.Micros(o.next.endedRevokeTime), o.next.account, o.current.Revision)...)
	if err != nil {
		return err
	}
	if changed, err := res.RowsAffected(); err != nil || changed != 1 {
		return errors.Join(fmt.Errorf("policy: %d rows changed, want 1", changed), err)
	}
	return nil
}

func insertRevision(ctx context.Context, tx *sqldb.Tx, r revision) error {
	_, err := tx.Exec(ctx, `INSERT INTO mfa_policy_revisions (`+policyColumns+`,
		actor_kind, actor_name, actor_display_name, previous_revoke_time)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		append(columnsOf(r.policy), r.kind.String(), r.name, r.displayName, sqldb.Micros(r.previousRevokeTime))...)
	return err
}

// revisions returns at most limit revisions below one, newest first; before 0
// begins with the newest.
func (s *store) revisions(ctx context.Context, account string, before int64, limit int) ([]revision, error) {
	rows, err := s.db.Query(ctx, `SELECT `+policyColumns+`, actor_kind, actor_name, actor_display_name, previous_revoke_time
		FROM mfa_policy_revisions WHERE account = ? AND (? = 0 OR revision < ?) ORDER BY revision DESC LIMIT ?`,
		account, before, before, limit)
	if err != nil {
		return nil, storeError("list revisions", err)
	}
	defer func() { _ = rows.Close() }()
	var found []revision
	for rows.Next() {
		var r revision
		var kind string
		var previous int64
		p, err := scanPolicy(rows.Scan, &kind, &r.name, &r.displayName, &previous)
		if err != nil {
			return nil, storeError("list revisions", err)
		}
		r.policy, r.kind = p, eventv1.Actor_Kind(eventv1.Actor_Kind_value[kind])
		r.previousRevokeTime = sqldb.FromMicros(previous)
		found = append(found, r)
	}
	return found, storeError("list revisions", rows.Err())
}

// enforced returns at most limit policies that are enforced, by account, from
// after one account on.
func (s *store) enforced(ctx context.Context, after string, limit int) ([]policy, error) {
	rows, err := s.db.Query(ctx, `SELECT `+policyColumns+` FROM mfa_policies
		WHERE enforced AND account > ? ORDER BY account LIMIT ?`, after, limit)
	if err != nil {
		return nil, storeError("list enforced policies", err)
	}
	defer func() { _ = rows.Close() }()
	var found []policy
	for rows.Next() {
		p, err := scanPolicy(rows.Scan)
		if err != nil {
			return nil, storeError("list enforced policies", err)
		}
		found = append(found, p)
	}
	return found, storeError("list enforced policies", rows.Err())
}
