package policy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// querier is a sqldb.DB or a sqldb.Tx.
type querier interface {
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
}

// selectPolicy returns an account's policy, or resource.ErrNotFound.
func selectPolicy(ctx context.Context, q querier, account, lock string) (policy, error) {
	row := q.QueryRow(ctx, `SELECT `+policyColumns+`, ended_revoke_time FROM mfa_policies WHERE account = ?`+lock, account)
	var ended int64
	p, err := scanPolicy(row.Scan, &ended)
	if errors.Is(err, sqldb.ErrNoRows) {
		return policy{}, resource.ErrNotFound
	}
	p.endedRevokeTime = sqldb.FromMicros(ended)
	return p, err
}

// columnsOf are the values of policyColumns.
func columnsOf(p policy) []any {
	return []any{
		p.account, p.Revision, p.Enforced, p.GracePeriod.Microseconds(), p.ApplyToSSO,
		sqldb.Micros(p.EnforceTime), sqldb.Micros(p.updateTime),
	}
}

// scanPolicy reads policyColumns, and what the query selects after them into
// others.
func scanPolicy(scan func(...any) error, others ...any) (policy, error) {
	var p policy
	var period, enforceTime, updateTime int64
	columns := []any{&p.account, &p.Revision, &p.Enforced, &period, &p.ApplyToSSO, &enforceTime, &updateTime}
	if err := scan(append(columns, others...)...); err != nil {
		return policy{}, err
	}
	p.GracePeriod = time.Duration(period) * time.Microsecond
	p.EnforceTime, p.updateTime = sqldb.FromMicros(enforceTime), sqldb.FromMicros(updateTime)
	return p, nil
}

// storeError says, for the log, what failed.
func storeError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("policy: %s: %w", what, err)
}
