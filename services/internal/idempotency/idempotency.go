package idempotency

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	// Lifetime is how long an answer is given again. After it the id is as good
	// as new, whether or not its row has been removed yet.
	Lifetime = 24 * time.Hour

	// Schema makes the table, on PostgreSQL and SQLite. A service copies it into a
	// migration of its own as it stands.
	Schema = `CREATE TABLE request_ids (
    scope       TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    method      TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    response    BYTEA,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX request_ids_create_time ON request_ids (create_time);`

	// claimAttempts bounds how often a claim is tried again because the row in
	// its way was removed between the two statements that look at it.
	claimAttempts = 5
)

// ErrReused refuses a request_id that was used for another request.
var ErrReused = errs.New(codes.AlreadyExists, errs.ReasonRequestIDReused,
	"This request_id was used for a different request. Use a fresh one for each new request.").WithField("request_id")

// Key names a request.
type Key struct {
	// Scope separates the ids of one account from those of another, so that
	// nobody can take or probe a stranger's. Who calls is no part of it.
	Scope string
	// RequestID is the request's own request_id. Empty means that the caller
	// did not ask for any of this: Begin finds nothing and Save stores nothing.
	RequestID string
	// Method is the full name of the RPC. One id serves one method.
	Method string
}

// NewKey names a request, or refuses a request_id that is not text: PostgreSQL
// stores no NUL, and no id needs a line break.
func NewKey(scope, method, requestID string) (Key, error) {
	if strings.ContainsFunc(requestID, unicode.IsControl) {
		return Key{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request_id is not usable.").
			WithViolation("request_id", "It must be text without control characters.")
	}
	return Key{Scope: scope, RequestID: requestID, Method: method}, nil
}

// Once makes a change in a transaction and fills in the answer, or, for a request
// that was made before, fills in its first answer, reports that it found one, and
// changes nothing. The transaction may be repeated, and change with it.
func Once(
	ctx context.Context, db *sqldb.DB, key Key, fingerprint Fingerprint, answer proto.Message,
	change func(ctx context.Context, tx *sqldb.Tx) error,
) (found bool, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		proto.Reset(answer)
		stored, answered, err := Begin(ctx, tx, key, fingerprint)
		if err != nil {
			return err
		}
		if found = answered; found {
			return proto.Unmarshal(stored, answer)
		}
		if err := change(ctx, tx); err != nil {
			return err
		}
		encoded, err := proto.Marshal(answer)
		if err != nil {
			return fmt.Errorf("idempotency: encode the answer: %w", err)
		}
		return Save(ctx, tx, key, encoded)
	})
	if errors.Is(err, sqldb.ErrCommitUnknown) {
		return found, outcomeUnknown(key).WithCause(err)
	}
	return found, err
}

// outcomeUnknown says what to do when nobody knows whether a change was made.
func outcomeUnknown(key Key) *errs.Error {
	if key.RequestID == "" {
		return errs.Unavailable(nil).WithMessage("Whether this was done is not known. Look before you repeat it.")
	}
	return errs.Unavailable(nil).WithMessage(
		"Whether this was done is not known. Repeat it with the same request_id: it is not done twice.")
}

// Begin claims the id for this transaction, or returns the answer that was given
// to the same request before. It is the transaction's first statement: every
// request with this id waits here, and so never with a lock that the other needs.
func Begin(ctx context.Context, tx *sqldb.Tx, key Key, fingerprint Fingerprint) (response []byte, found bool, err error) {
	if key.RequestID == "" {
		return nil, false, nil
	}
	for range claimAttempts {
		claimed, err := claim(ctx, tx, key, fingerprint)
		if err != nil || claimed {
			return nil, false, err
		}
		earlier, err := find(ctx, tx, key)
		if errors.Is(err, sqldb.ErrNoRows) {
			continue // removed since the claim met it
		}
		if err != nil {
			return nil, false, err
		}
		return resume(ctx, tx, key, fingerprint, earlier)
	}
	return nil, false, errors.New("idempotency: the request id keeps appearing and disappearing")
}

// record is a row of request_ids.
type record struct {
	method      string
	fingerprint []byte
	response    []byte
	// answered tells an empty answer from none: drivers return nil for both.
	answered bool
	expired  bool
}

// claim inserts the row. On PostgreSQL it waits for a transaction that has
// inserted the same one and not yet ended.
func claim(ctx context.Context, tx *sqldb.Tx, key Key, fingerprint Fingerprint) (bool, error) {
	res, err := tx.Exec(ctx, `INSERT INTO request_ids (scope, request_id, method, fingerprint, create_time)
		VALUES (?, ?, ?, ?, `+tx.NowExpr()+`) ON CONFLICT (scope, request_id) DO NOTHING`,
		key.Scope, key.RequestID, key.Method, fingerprint.Sum)
	if err != nil {
		return false, fmt.Errorf("idempotency: claim: %w", err)
	}
	inserted, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("idempotency: claim: %w", err)
	}
	return inserted == 1, nil
}

func find(ctx context.Context, tx *sqldb.Tx, key Key) (record, error) {
	var r record
	err := tx.QueryRow(ctx, `SELECT method, fingerprint, response, response IS NOT NULL, create_time <= `+tx.NowExpr()+` - ?
		FROM request_ids WHERE scope = ? AND request_id = ?`+tx.ForUpdate(),
		Lifetime.Microseconds(), key.Scope, key.RequestID).
		Scan(&r.method, &r.fingerprint, &r.response, &r.answered, &r.expired)
	if err != nil {
		return record{}, fmt.Errorf("idempotency: find: %w", err)
	}
	return r, nil
}

// resume decides what an earlier use of the id means for this one.
func resume(ctx context.Context, tx *sqldb.Tx, key Key, fingerprint Fingerprint, earlier record) ([]byte, bool, error) {
	switch {
	case earlier.expired:
		return nil, false, reclaim(ctx, tx, key, fingerprint)
	case earlier.method != key.Method || !fingerprint.matches(earlier.fingerprint):
		return nil, false, ErrReused
	case !earlier.answered:
		// Somebody committed between Begin and Save: a fault of that method,
		// which must not turn into the change being made twice.
		return nil, false, fmt.Errorf("idempotency: %s stored no answer", key.Method)
	default:
		return earlier.response, true, nil
	}
}

func reclaim(ctx context.Context, tx *sqldb.Tx, key Key, fingerprint Fingerprint) error {
	_, err := tx.Exec(ctx, `UPDATE request_ids SET method = ?, fingerprint = ?, response = NULL, create_time = `+tx.NowExpr()+`
		WHERE scope = ? AND request_id = ?`, key.Method, fingerprint.Sum, key.Scope, key.RequestID)
	if err != nil {
		return fmt.Errorf("idempotency: claim again: %w", err)
	}
	return nil
}

// Save stores the answer beside the claim that Begin made in this transaction.
func Save(ctx context.Context, tx *sqldb.Tx, key Key, response []byte) error {
	if key.RequestID == "" {
		return nil
	}
	if response == nil {
		response = []byte{} // an empty message is an answer; NULL is none
	}
	res, err := tx.Exec(ctx, `UPDATE request_ids SET response = ? WHERE scope = ? AND request_id = ?`,
		response, key.Scope, key.RequestID)
	if err != nil {
		return fmt.Errorf("idempotency: save: %w", err)
	}
	if updated, err := res.RowsAffected(); err != nil || updated != 1 {
		return errors.Join(fmt.Errorf("idempotency: save: %d rows have the id, want the one of Begin", updated), err)
	}
	return nil
}
