package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	"github.com/twofold-auth/twofold/services/auth/recovery"
	"github.com/twofold-auth/twofold/services/auth/totp"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	factorTOTP = "TOTP"

	// purposeFactor and purposeEnrollment seal the secrets of factors and of those
	// in the making. They differ, so that nobody who can write to the database
	// makes the one from the other.
	purposeFactor     keyring.Purpose = "totp-secret"
	purposeEnrollment keyring.Purpose = "totp-enrollment"
)

// factor is a factor as it is stored.
type factor struct {
	id, kind                string
	secret                  []byte // sealed
	lastStep                int64
	createTime, lastUseTime time.Time
}

func (f factor) toProto(a agent) *authv1.Factor {
	return &authv1.Factor{
		Name:        factorName(a, f.id),
		Type:        authv1.Factor_Type(authv1.Factor_Type_value[f.kind]),
		CreateTime:  timestamp(f.createTime),
		LastUseTime: timestamp(f.lastUseTime),
	}
}

func factorName(a agent, id string) string { return a.name().String() + "/factors/" + id }

// errFactorsDisagree says that an agent's row and the factors do not fit together:
// one of them changed between two reads, or the database is damaged.
var errFactorsDisagree = errors.New("hasFactor disagrees with the factors there are")

// selectFactors returns the factors of an agent, the oldest first. That there are
// some exactly when the agent's row says so is checked: a factor that cannot be
// found is not the same as none.
func selectFactors(ctx context.Context, q querier, a agent) (found []factor, err error) {
	rows, err := q.Query(ctx, `SELECT id, type, secret, last_step, create_time, last_use_time
		FROM factors WHERE agent_id = ? ORDER BY id`, a.id)
	if err != nil {
		return nil, storeError("read factors", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var f factor
		var created, used int64
		if err := rows.Scan(&f.id, &f.kind, &f.secret, &f.lastStep, &created, &used); err != nil {
			return nil, storeError("read factors", err)
		}
		f.createTime, f.lastUseTime = sqldb.FromMicros(created), sqldb.FromMicros(used)
		found = append(found, f)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("read factors", err)
	}
	if a.hasFactor != (len(found) > 0) {
		return nil, errs.Unavailable(fmt.Errorf("auth: %s has %d factors: %w", a.name(), len(found), errFactorsDisagree))
	}
	return found, nil
}

// checkFactors does nothing but what selectFactors checks.
func checkFactors(ctx context.Context, q querier, a agent) error {
	_, err := selectFactors(ctx, q, a)
	return err
}

// seal and open bind a secret to the place it is kept at.
func (s *store) seal(p keyring.Purpose, a agent, id string, secret totp.Secret) []byte {
	return s.keys.Seal(p, secret, a.account, a.id, id, factorTOTP)
}

func (s *store) open(p keyring.Purpose, a agent, id string, sealed []byte) (totp.Secret, error) {
	secret, err := s.keys.Open(p, sealed, a.account, a.id, id, factorTOTP)
	if err != nil {
		return nil, errs.Unavailable(fmt.Errorf("auth: secret %s of %s: %w", id, a.name(), err))
	}
	return secret, nil
}

// matchTOTP decides about a code. wrong is totp.ErrIncorrect or totp.ErrReplayed;
// err means that there is no answer.
func matchTOTP(secret totp.Secret, code totp.Code, now time.Time, lastStep int64) (step int64, wrong, err error) {
	step, err = totp.Match(secret, code, now, lastStep)
	if errors.Is(err, totp.ErrIncorrect) || errors.Is(err, totp.ErrReplayed) {
		return 0, err, nil
	}
	if err != nil {
		return 0, nil, errs.Unavailable(err)
	}
	return step, nil, nil
}

// consumeStep uses up a time step of a factor. It reports false when that step or
// a later one was used: RFC 6238, section 5.2, and the line that parallel answers
// with one code meet at.
func consumeStep(ctx context.Context, tx *sqldb.Tx, factorID string, step int64, now time.Time) (bool, error) {
	res, err := tx.Exec(ctx, `UPDATE factors SET last_step = ?, last_use_time = ? WHERE id = ? AND last_step < ?`,
		step, sqldb.Micros(now), factorID, step)
	if err != nil {
		return false, storeError("use a code", err)
	}
	changed, err := res.RowsAffected()
	return changed == 1, storeError("use a code", err)
}

// insertFactor stores a factor that has just been confirmed with the code of a
// step.
func (s *store) insertFactor(
	ctx context.Context, tx *sqldb.Tx, a agent, secret totp.Secret, step int64, now time.Time,
) (id string, err error) {
	random, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("auth: factor id: %w", err)
	}
	id = random.String()
	_, err = tx.Exec(ctx, `INSERT INTO factors (id, agent_id, type, secret, last_step, create_time, last_use_time)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		id, a.id, factorTOTP, s.seal(purposeFactor, a, id, secret), step, sqldb.Micros(now), sqldb.Micros(now))
	return id, storeError("insert a factor", err)
}

// storedCode is a recovery code as it is stored.
type storedCode struct {
	position int
	mac      []byte
}

// selectCodes returns the recovery codes an agent has left, and whom they are
// bound to.
func selectCodes(ctx context.Context, q querier, a agent) (owner recovery.Owner, left []storedCode, err error) {
	rows, err := q.Query(ctx, `SELECT generation, position, mac FROM recovery_codes WHERE agent_id = ? ORDER BY position`, a.id)
	if err != nil {
		return owner, nil, storeError("read recovery codes", err)
	}
	defer func() { _ = rows.Close() }()
	owner = recovery.Owner{Account: a.account, Agent: a.id}
	for rows.Next() {
		var generation string
		var c storedCode
		if err := rows.Scan(&generation, &c.position, &c.mac); err != nil {
			return owner, nil, storeError("read recovery codes", err)
		}
		if owner.Generation, err = strconv.ParseInt(generation, 10, 64); err != nil {
			return owner, nil, errs.Unavailable(storeError("read recovery codes", err))
		}
		left = append(left, c)
	}
	return owner, left, storeError("read recovery codes", rows.Err())
}

// replaceCodes makes an agent's recovery codes anew and returns them as they are
// shown, this once. The time names their generation: it outlives a reset, which
// deletes every trace of the earlier ones.
func (s *store) replaceCodes(ctx context.Context, tx *sqldb.Tx, a agent, now time.Time) (shown []string, err error) {
	earlier, _, err := selectCodes(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	if err := deleteCodes(ctx, tx, a); err != nil {
		return nil, err
	}
	set, err := recovery.NewSet(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("auth: recovery codes: %w", err)
	}
	owner := recovery.Owner{Account: a.account, Agent: a.id, Generation: max(sqldb.Micros(now), earlier.Generation+1)}
	var args []any
	for i, code := range set {
		shown = append(shown, code.Text())
		args = append(args, a.id, strconv.FormatInt(owner.Generation, 10), i+1, recovery.Hash(s.keys, owner, code))
	}
	_, err = tx.Exec(ctx, `INSERT INTO recovery_codes (agent_id, generation, position, mac) VALUES `+tuples(len(set), 4), args...)
	return shown, storeError("insert recovery codes", err)
}

func deleteCodes(ctx context.Context, tx *sqldb.Tx, a agent) error {
	_, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE agent_id = ?`, a.id)
	return storeError("delete recovery codes", err)
}

// consumeCode uses up a recovery code, if it is one of the agent's, and returns
// how many are left.
func (s *store) consumeCode(ctx context.Context, tx *sqldb.Tx, a agent, code recovery.Code) (left int, ok bool, err error) {
	owner, codes, err := selectCodes(ctx, tx, a)
	if err != nil {
		return 0, false, err
	}
	macs := make([][]byte, len(codes))
	for i, c := range codes {
		macs[i] = c.mac
	}
	i, err := recovery.Match(s.keys, owner, code, macs)
	if err != nil {
		return 0, false, errs.Unavailable(fmt.Errorf("auth: recovery codes of %s: %w", a.name(), err))
	}
	if i < 0 {
		return 0, false, nil
	}
	res, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE agent_id = ? AND position = ?`, a.id, codes[i].position)
	if err != nil {
		return 0, false, storeError("use a recovery code", err)
	}
	deleted, err := res.RowsAffected()
	return len(codes) - 1, deleted == 1, storeError("use a recovery code", err)
}
