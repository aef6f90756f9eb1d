package outbox

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// row is an event that waits to be published.
type row struct {
	id    string
	event events.Event
	// broken says why the row holds no event that this version knows.
	broken error
}

// place is where the stream put the event of a row.
type place struct {
	id      string
	seq     uint64
	created time.Time
}

// pending reads the next rows to publish, in order.
func pending(ctx context.Context, db *sqldb.DB, limit, offset int) ([]row, error) {
	rows, err := db.Query(ctx, `SELECT id, event_type, source, subject, account, version, event_time, headers, payload
		FROM outbox WHERE publish_time IS NULL ORDER BY create_time, version, id LIMIT ? OFFSET ?`, limit, offset)
	if err != nil {
		return nil, fmt.Errorf("outbox: read pending: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err below has what there is to say
	var out []row
	for rows.Next() {
		var e events.Event
		var eventType, headers string
		var micros int64
		var payload []byte
		if err := rows.Scan(&e.ID, &eventType, &e.Source, &e.Subject, &e.Account, &e.Version, &micros, &headers, &payload); err != nil {
			return nil, fmt.Errorf("outbox: read pending: %w", err)
		}
		r := row{id: e.ID}
		e.Time = sqldb.FromMicros(micros)
		if e.Payload, r.broken = events.DecodePayload(eventType, payload); r.broken == nil {
			r.broken = setHeaders(&e, headers)
		}
		if r.broken == nil {
			r.broken = e.Validate()
		}
		r.event = e
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: read pending: %w", err)
	}
	return out, nil
}

// markPublished notes where the stream put the events. Another copy may have
// noted it first, for the same place.
func markPublished(ctx context.Context, db *sqldb.DB, places []place) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, p := range places {
			_, err := tx.Exec(ctx, `UPDATE outbox SET publish_time = `+tx.NowExpr()+`, stream_seq = ?, stream_created = ?
				WHERE id = ? AND publish_time IS NULL`, asInt(p.seq), sqldb.Micros(p.created), p.id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: mark published: %w", err)
	}
	return nil
}

// markMissing has events published again. The place is part of the condition, so
// that a copy that is already doing so is not undone.
func markMissing(ctx context.Context, db *sqldb.DB, places []place) error {
	err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, p := range places {
			_, err := tx.Exec(ctx, `UPDATE outbox SET publish_time = NULL, stream_seq = NULL, stream_created = NULL
				WHERE id = ? AND stream_seq = ? AND stream_created = ?`, p.id, asInt(p.seq), sqldb.Micros(p.created))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("outbox: mark missing: %w", err)
	}
	return nil
}

// markReplaced has everything since `since` published again that went to another
// stream than the present one, and says how many rows that were. In parts, so
// that a large table does not keep writers waiting.
func markReplaced(ctx context.Context, db *sqldb.DB, present, since time.Time) (total int64, err error) {
	for {
		var changed int64
		err := db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			res, err := tx.Exec(ctx, `UPDATE outbox SET publish_time = NULL, stream_seq = NULL, stream_created = NULL
				WHERE id IN (SELECT id FROM outbox WHERE publish_time IS NOT NULL AND stream_created <> ? AND create_time > ? LIMIT ?)`,
				sqldb.Micros(present), sqldb.Micros(since), chunk)
			if err != nil {
				return err
			}
			changed, err = res.RowsAffected()
			return err
		})
		if err != nil {
			return total, fmt.Errorf("outbox: mark replaced: %w", err)
		}
		total += changed
		if changed < chunk {
			return total, nil
		}
	}
}

// newest reads the published rows of a stream below a sequence, the latest first.
func newest(ctx context.Context, db *sqldb.DB, created, since time.Time, below uint64, limit int) ([]place, error) {
	rows, err := db.Query(ctx, `SELECT id, stream_seq FROM outbox
		WHERE publish_time IS NOT NULL AND stream_created = ? AND stream_seq < ? AND create_time > ?
		ORDER BY stream_seq DESC LIMIT ?`, sqldb.Micros(created), asInt(below), sqldb.Micros(since), limit)
	if err != nil {
		return nil, fmt.Errorf("outbox: read published: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err below has what there is to say
	var out []place
	for rows.Next() {
		var id string
		var seq int64
		if err := rows.Scan(&id, &seq); err != nil {
			return nil, fmt.Errorf("outbox: read published: %w", err)
		}
		out = append(out, place{id: id, seq: uint64(max(seq, 0)), created: created})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: read published: %w", err)
	}
	return out, nil
}

// deleteOld removes published rows that the stream has outlived, in parts.
func deleteOld(ctx context.Context, db *sqldb.DB, before time.Time) error {
	for {
		res, err := db.Exec(ctx, `DELETE FROM outbox WHERE id IN (
			SELECT id FROM outbox WHERE publish_time IS NOT NULL AND create_time < ? LIMIT ?)`, sqldb.Micros(before), chunk)
		if err != nil {
			return fmt.Errorf("outbox: delete old rows: %w", err)
		}
		deleted, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("outbox: delete old rows: %w", err)
		}
		if deleted < chunk {
			return nil
		}
	}
}

// backlog is how many events wait, and for how long the first has.
func backlog(ctx context.Context, db *sqldb.DB) (count int64, age time.Duration, err error) {
	var micros int64
	err = db.QueryRow(ctx, `SELECT count(*), COALESCE(`+db.NowExpr()+` - MIN(create_time), 0)
		FROM outbox WHERE publish_time IS NULL`).Scan(&count, &micros)
	if err != nil {
		return 0, 0, fmt.Errorf("outbox: count pending: %w", err)
	}
	return count, max(time.Duration(micros)*time.Microsecond, 0), nil
}

// asInt is a sequence as SQL stores it. Streams do not get near 2^63 messages.
func asInt(seq uint64) int64 {
	return int64(min(seq, math.MaxInt64))
}
