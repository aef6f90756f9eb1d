package idempotency

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	// removeBatch keeps each removing transaction short: on SQLite nobody else
	// writes meanwhile.
	removeBatch = 500
	// removeEvery is rare because nothing depends on it but space.
	removeEvery = 10 * time.Minute
)

// RemoveExpired removes at most limit rows that are past their Lifetime, and
// says how many there were.
func RemoveExpired(ctx context.Context, db *sqldb.DB, limit int) (int, error) {
	var removed int64
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		// Rows that a repeated request is claiming right now are left to it.
		res, err := tx.Exec(ctx, `DELETE FROM request_ids WHERE (scope, request_id) IN (
			SELECT scope, request_id FROM request_ids WHERE create_time <= `+tx.NowExpr()+` - ?
			ORDER BY create_time LIMIT ?`+tx.SkipLocked()+`)`, Lifetime.Microseconds(), limit)
		if err != nil {
			return err
		}
		removed, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("idempotency: remove expired: %w", err)
	}
	return int(removed), nil
}

// Clean removes expired rows, in batches, until ctx ends. It returns nil
// then; what fails meanwhile is logged and tried again.
func Clean(ctx context.Context, db *sqldb.DB, log *slog.Logger) error {
	ticker := time.NewTicker(removeEvery)
	defer ticker.Stop()
	for {
		removed, err := RemoveExpired(ctx, db, removeBatch)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.WarnContext(ctx, "Expired request ids could not be removed", "error", err)
		case removed == removeBatch:
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
