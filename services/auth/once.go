package auth

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

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
	key, err := idempotency.NewKey(scope, method, requestID)
	if err != nil {
		return request{}, err
	}
	fingerprint, err := s.fingerprint(message)
	return request{key: key, fingerprint: fingerprint}, err
}

// once makes a change, unless the request was made before; see idempotency.Once.
func (s *store) once(
	ctx context.Context, r request, answer proto.Message, change func(ctx context.Context, tx *sqldb.Tx) error,
) error {
	_, err := idempotency.Once(ctx, s.db, r.key, r.fingerprint, answer, change)
	return err
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
