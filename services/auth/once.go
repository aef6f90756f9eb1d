package auth

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// request names a request that may be repeated.
type request struct {
	key         idempotency.Key
	fingerprint idempotency.Fingerprint
}

// newRequest reads a request's request_id. scope is the account it belongs to.
func (s *store) newRequest(scope, method, requestID string, message proto.Message) (request, error) {
	if strings.ContainsFunc(requestID, unicode.IsControl) {
		return request{}, errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request_id is not usable.").
			WithViolation("request_id", "It must be text without control characters.")
	}
	fingerprint, err := s.fingerprint(message)
	return request{
		key:         idempotency.Key{Scope: scope, RequestID: requestID, Method: method},
		fingerprint: fingerprint,
	}, err
}

// once makes a change in a transaction and fills in the answer, or, for a request
// that was made before, fills in its first answer and changes nothing. The
// transaction may be repeated, and change with it.
func (s *store) once(
	ctx context.Context, r request, answer proto.Message, change func(ctx context.Context, tx *sqldb.Tx) error,
) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		proto.Reset(answer)
		stored, found, err := idempotency.Begin(ctx, tx, r.key, r.fingerprint)
		if err != nil {
			return err
		}
		if found {
			return proto.Unmarshal(stored, answer)
		}
		if err := change(ctx, tx); err != nil {
			return err
		}
		encoded, err := proto.Marshal(answer)
		if err != nil {
			return err
		}
		return idempotency.Save(ctx, tx, r.key, encoded)
	})
}

var errNotAnswered = errors.New("auth: a request that was not made before")

// answered reports whether the request was made before, and fills in its answer.
// It spares a repeated request the work that comes before the transaction:
// passwords take long to hash.
func (s *store) answered(ctx context.Context, r request, answer proto.Message) (bool, error) {
	if r.key.RequestID == "" {
		return false, nil
	}
	// The error rolls the claim back; the change itself claims again.
	err := s.once(ctx, r, answer, func(context.Context, *sqldb.Tx) error { return errNotAnswered })
	if errors.Is(err, errNotAnswered) {
		return false, nil
	}
	return err == nil, err
}

// unlessAnswered returns a refusal that was found outside of the transaction,
// unless its cause is a twin of the request, sent again before the first answer
// came: then it fills in that one's answer.
func (s *store) unlessAnswered(ctx context.Context, r request, answer proto.Message, refusal error) error {
	if found, err := s.answered(ctx, r, answer); err != nil || found {
		return err
	}
	return refusal
}
