package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

var (
	errNoEnforcement = errors.New("session: the bucket has a session of an account whose enforcement it does not know")
	errNotCurrent    = errors.New("session: the bucket does not hold all revocations that are known to have happened")
)

func errRebuilding() error { return unavailable(errNotCurrent) }

// judged is a session that stands.
type judged struct {
	stored
	revokeTime time.Time // zero if the policy, as it is, will not end it
}

// validate gives the verdict on a token with one command to the store.
func (s *store) validate(ctx context.Context, verdicts redis.Cmdable, text string, now time.Time) (judged, error) {
	t, ok := parseToken(text)
	if !ok {
		return judged{}, errUnknown()
	}
	around, values, err := s.observe(ctx, verdicts, t.agentRef, t.key())
	if err != nil {
		return judged{}, err
	}
	return s.decide(t, around, values[0], now)
}

// decide decides about a token on what the store holds.
func (s *store) decide(t token, around surroundings, value *string, now time.Time) (judged, error) {
	if value == nil {
		return judged{}, around.missing(t.sessionRef)
	}
	rec, tomb, err := decodeRecord(t.id, *value)
	if err != nil {
		return judged{}, unavailable(err)
	}
	want := t.hash()
	if tomb != nil {
		if subtle.ConstantTimeCompare(tomb.hash[:], want[:]) != 1 {
			return judged{}, errUnknown()
		}
		return judged{}, errEnded(tomb.cause)
	}
	if subtle.ConstantTimeCompare(rec.hash[:], want[:]) != 1 || rec.ref != t.sessionRef {
		return judged{}, errUnknown()
	}
	revokeTime, err := around.judge(s.cfg, rec, now)
	return judged{stored: stored{raw: *value, record: rec}, revokeTime: revokeTime}, err
}

// missing is why a session is not in the store.
func (a surroundings) missing(ref sessionRef) error {
	if made := idTime(ref.id); made.Before(a.meta.born) || made.Before(a.meta.repaired) {
		return errLost()
	}
	return errUnknown()
}

// judge decides about a session that is in the store: nil if it stands, and then
// when the policy will end it.
func (a surroundings) judge(c Config, rec *record, now time.Time) (time.Time, error) {
	switch {
	case idTime(rec.ref.id).Before(a.meta.born):
		// What revoked it may be gone, although the session is not.
		return time.Time{}, errLost()
	case rec.agentVersion < a.minimum:
		return time.Time{}, errRevoked()
	case a.known == nil:
		return time.Time{}, unavailable(errNoEnforcement)
	}
	verdict := a.known.judge(rec.facts(), rec.lowered, now)
	if !verdict.Alive {
		return time.Time{}, errEndedByPolicy()
	}
	if !now.Before(rec.end(c)) {
		return time.Time{}, errExpired()
	}
	return verdict.RevokeTime, nil
}

// isOver tells a session that is over from one that could not be decided about.
func isOver(err error) bool {
	var e *errs.Error
	return errors.As(err, &e) && e.Code() == codes.Unauthenticated
}
