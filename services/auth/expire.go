package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	// removeInterval is how often what has expired is removed. It frees space only:
	// whether something has expired is decided by its time wherever it is read.
	removeInterval = time.Minute
	// removeBatch keeps each removing transaction short: on SQLite nobody else
	// writes meanwhile.
	removeBatch = 500
)

// expiring is a table with rows that are of no use after a time.
type expiring struct {
	table, key, time string
	after            time.Duration
}

func expiringTables() []expiring {
	return []expiring{
		{table: "sign_ins", key: "id", time: "expire_time"},
		{table: "enrollments", key: "agent_id", time: "expire_time"},
		{table: "password_failures", key: "id", time: "update_time", after: passwordMemory},
		{table: "reset_mails", key: "agent_id", time: "window_time", after: resetWindow},
		{table: "recorded_events", key: "event_id", time: "record_time", after: recordedMemory},
	}
}

// removeExpired removes what has expired, in batches, until ctx ends. It returns
// nil then; what fails meanwhile is logged and tried again.
func (s *Service) removeExpired(ctx context.Context) error {
	ticker := time.NewTicker(removeInterval)
	defer ticker.Stop()
	for {
		for _, e := range expiringTables() {
			if err := s.store.removeAll(ctx, e); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "Expired rows could not be removed",
					slog.String("table", e.table), slog.Any("error", err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *store) removeAll(ctx context.Context, e expiring) error {
	for {
		removed, err := s.removeSome(ctx, e)
		if err != nil || removed < removeBatch {
			return err
		}
	}
}

func (s *store) removeSome(ctx context.Context, e expiring) (removed int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		// Rows that somebody is using right now are left to them.
		res, err := tx.Exec(ctx, `DELETE FROM `+e.table+` WHERE `+e.key+` IN (
			SELECT `+e.key+` FROM `+e.table+` WHERE `+e.time+` <= `+tx.NowExpr()+` - ?
			ORDER BY `+e.time+` LIMIT ?`+tx.SkipLocked()+`)`, e.after.Microseconds(), removeBatch)
		if err != nil {
			return err
		}
		removed, err = res.RowsAffected()
		return err
	})
	return removed, storeError("remove what has expired from "+e.table, err)
}
