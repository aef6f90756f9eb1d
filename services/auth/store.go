package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// store keeps accounts, agents and what they prove in SQL. Its methods are whole
// transactions; the functions beside them are statements, for a Tx or for
// reading outside of one.
type store struct {
	db   *sqldb.DB
	keys *keyring.Keyring
}

// querier is a sqldb.DB or a sqldb.Tx.
type querier interface {
	QueryRow(ctx context.Context, query string, args ...any) *sql.Row
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// account is an account as it is stored.
type account struct {
	id, displayName, ownerID string
	createTime               time.Time
}

// selectAccount returns an account, or resource.ErrNotFound.
func selectAccount(ctx context.Context, q querier, id string) (account, error) {
	var a account
	var created int64
	err := q.QueryRow(ctx, `SELECT id, display_name, owner_id, create_time FROM accounts WHERE id = ?`, id).
		Scan(&a.id, &a.displayName, &a.ownerID, &created)
	if errors.Is(err, sqldb.ErrNoRows) {
		return account{}, resource.ErrNotFound
	}
	a.createTime = sqldb.FromMicros(created)
	return a, storeError("read an account", err)
}

// purposeFingerprint keys the fingerprints of requests.
const purposeFingerprint keyring.Purpose = "request-fingerprint"

// fingerprint is a keyed one, because requests to auth hold passwords: a plain
// hash of them would let anybody who reads the table try passwords against it.
func (s *store) fingerprint(request proto.Message) (idempotency.Fingerprint, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return idempotency.Fingerprint{}, fmt.Errorf("auth: encode a request: %w", err)
	}
	words := []string{string(request.ProtoReflect().Descriptor().FullName()), string(encoded)}
	return idempotency.Fingerprint{
		Sum:     s.keys.MAC(purposeFingerprint, words...),
		Matches: func(stored []byte) bool { return s.keys.VerifyMAC(purposeFingerprint, stored, words...) },
	}, nil
}

// storeError says, for the log, what failed.
func storeError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("auth: %s: %w", what, err)
}
