package auth

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// reencryptBatch is how many values one transaction makes anew. Sign-ins of these
// agents wait for it, and on SQLite everybody who writes.
const reencryptBatch = 100

// Reencryption makes anew, under the primary key, what the service's database holds
// under other keys. It works beside running copies of the service: a value that one
// of them changes meanwhile is left as that one wrote it. It may end at any time,
// and run again, also twice at once: what is done already is passed over.
type Reencryption struct {
	store *store
	batch int
}

// NewReencryption returns a re-encryption of the service's database.
func NewReencryption(db *sqldb.DB, keys *keyring.Keyring) *Reencryption {
	return &Reencryption{store: &store{db: db, keys: keys}, batch: reencryptBatch}
}

// ReencryptionProgress is how far a pass over one kind of values has come. Values
// that are stored meanwhile are seen too, so Seen may end above Total.
type ReencryptionProgress struct {
	Kind string
	// Seen values were looked at, and Renewed ones of them made anew.
	Seen, Renewed, Total int64
}

// sealedKind is one kind of sealed values: its table t with the columns of an
// agent, a sealed secret, and the id it is bound to.
type sealedKind struct {
	name    string
	purpose keyring.Purpose
	table   string
	key     string // its primary key
	where   string // which rows still matter
}

func (s *store) sealedKinds() []sealedKind {
	return []sealedKind{
		{name: "TOTP secrets", purpose: purposeFactor, table: "factors", key: "id", where: "TRUE"},
		{
			name: "TOTP secrets being set up", purpose: purposeEnrollment, table: "enrollments", key: "agent_id",
			where: "t.expire_time > " + s.db.NowExpr(),
		},
	}
}

// sealedRow is a row of a sealedKind.
type sealedRow struct {
	key    string
	agent  agent // its id and its account
	id     string
	sealed []byte
}

// total counts the rows of a kind.
func (s *store) total(ctx context.Context, k sealedKind) (n int64, err error) {
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM `+k.table+` t WHERE `+k.where).Scan(&n)
	return n, storeError("count "+k.name, err)
}

// sealedPage returns the rows after a key, in the order of their keys.
func (s *store) sealedPage(ctx context.Context, k sealedKind, after string, limit int) (page []sealedRow, err error) {
	rows, err := s.db.Query(ctx, `SELECT t.`+k.key+`, t.agent_id, a.account, t.id, t.secret
		FROM `+k.table+` t JOIN agents a ON a.id = t.agent_id
		WHERE t.`+k.key+` > ? AND `+k.where+` ORDER BY t.`+k.key+` LIMIT ?`, after, limit)
	if err != nil {
		return nil, storeError("read "+k.name, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r sealedRow
		if err := rows.Scan(&r.key, &r.agent.id, &r.agent.account, &r.id, &r.sealed); err != nil {
			return nil, storeError("read "+k.name, err)
		}
		page = append(page, r)
	}
	return page, storeError("read "+k.name, rows.Err())
}

// eachSealed calls do with page after page of a kind.
func (r *Reencryption) eachSealed(ctx context.Context, k sealedKind, do func([]sealedRow) error) error {
	for after := ""; ; {
		page, err := r.store.sealedPage(ctx, k, after, r.batch)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := do(page); err != nil {
			return err
		}
		after = page[len(page)-1].key
	}
}

// Run makes anew what is outdated and can be read, and says after every batch how
// far it has come. What cannot be read is passed over: Count finds it.
func (r *Reencryption) Run(ctx context.Context, progress func(ReencryptionProgress)) error {
	for _, kind := range r.store.sealedKinds() {
		total, err := r.store.total(ctx, kind)
		if err != nil {
			return err
		}
		p := ReencryptionProgress{Kind: kind.name, Total: total}
		progress(p)
		err = r.eachSealed(ctx, kind, func(page []sealedRow) error {
			renewed, err := r.renew(ctx, kind, page)
			if err != nil {
				return err
			}
			p.Seen, p.Renewed = p.Seen+int64(len(page)), p.Renewed+renewed
			progress(p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// renewal is a value that takes another's place.
type renewal struct {
	sealedRow
	fresh []byte
}

// renew makes the outdated ones of a page anew, and says how many were.
func (r *Reencryption) renew(ctx context.Context, k sealedKind, page []sealedRow) (renewed int64, err error) {
	var renewals []renewal
	for _, row := range page {
		if !r.store.keys.Outdated(row.sealed) {
			continue
		}
		secret, err := r.store.open(k.purpose, row.agent, row.id, row.sealed)
		if err != nil {
			continue
		}
		fresh := r.store.seal(k.purpose, row.agent, row.id, secret)
		// The old value is gone after this: it must not be this one's fault that
		// nobody can sign in.
		if check, err := r.store.open(k.purpose, row.agent, row.id, fresh); err != nil || !bytes.Equal(check, secret) {
			return 0, fmt.Errorf("auth: sealed anew, %s of %s does not open: %w", k.name, row.agent.name(), err)
		}
		renewals = append(renewals, renewal{row, fresh})
	}
	if len(renewals) == 0 {
		return 0, nil
	}
	err = r.store.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		renewed = 0
		for _, n := range renewals {
			// Unless somebody has changed it since it was read.
			res, err := tx.Exec(ctx, `UPDATE `+k.table+` SET secret = ? WHERE `+k.key+` = ? AND secret = ?`,
				n.fresh, n.key, n.sealed)
			if err != nil {
				return storeError("renew "+k.name, err)
			}
			changed, err := res.RowsAffected()
			if err != nil {
				return storeError("renew "+k.name, err)
			}
			renewed += changed
		}
		return nil
	})
	return renewed, err
}
