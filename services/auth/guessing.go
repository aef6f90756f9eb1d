package auth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// Limits on guessing second factors. They are kept for the agent, over all
// sign-ins and sessions, because a new sign-in must not bring new guesses: whoever
// knows the password can begin as many as they like.
const (
	// maxFailures wrong codes in a row begin a cool-down, which grows with every
	// further one.
	maxFailures  = 10
	firstCoolOff = time.Minute
	maxCoolOff   = 15 * time.Minute
	// disabledAt wrong codes in a row disable the factor until it is reset (NIST
	// SP 800-63B-4, section 3.2.2).
	disabledAt = 100
)

// failureKind is a counter of an agent.
type failureKind string

const (
	// failedFactor counts wrong codes of every factor that is set up.
	failedFactor failureKind = "FACTOR"
	// failedRecovery counts wrong recovery codes once more.
	failedRecovery failureKind = "RECOVERY_CODE"
	// failedEnrollment counts wrong codes of factors in the making. They are known
	// to whoever sets them up, so there is nothing to guess, and they never disable
	// anything.
	failedEnrollment failureKind = "ENROLLMENT"
)

var (
	errTooManyAttempts = errs.New(codes.ResourceExhausted, errs.ReasonTooManyAttempts,
		"Too many failed attempts. Wait before you try again.")
	errCodeIncorrect = errs.New(codes.Unauthenticated, errs.ReasonCodeIncorrect,
		"The code is wrong, or was used before. Wait for the next one.")
)

// coolOff is how long to wait after so many failures in a row, when limit of them
// are free.
func coolOff(failures, limit int) time.Duration {
	if failures < limit {
		return 0
	}
	wait := firstCoolOff
	for range failures - limit {
		if wait *= 2; wait >= maxCoolOff {
			return maxCoolOff
		}
	}
	return wait
}

// disabled refuses without saying when to try again: waiting does not help.
func disabled(kind failureKind) *errs.Error {
	if kind == failedRecovery {
		return errTooManyAttempts.WithMessage(
			"Your recovery codes were disabled after too many failed attempts. Sign in with your authenticator app and make new ones.")
	}
	return errTooManyAttempts.WithMessage(
		"Your second factor was disabled after too many failed attempts. Ask an admin to reset it.")
}

// tooManyUntil tells to wait until a time, in whole seconds.
func tooManyUntil(until, now time.Time) *errs.Error {
	wait := until.Sub(now)
	return errTooManyAttempts.WithRetryAfter((wait + time.Second - 1).Truncate(time.Second))
}

// checkGuesses refuses a guess that one of the counters does not allow. The
// caller holds the agent's lock until the guess is decided and counted, so that
// of many parallel guesses no more are looked at than there are left.
func checkGuesses(ctx context.Context, tx *sqldb.Tx, agentID string, now time.Time, kinds ...failureKind) error {
	for _, kind := range kinds {
		var failures int
		var blocked int64
		err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(failures), 0), COALESCE(MAX(blocked_time), 0)
			FROM factor_failures WHERE agent_id = ? AND kind = ?`, agentID, string(kind)).Scan(&failures, &blocked)
		if err != nil {
			return storeError("read a counter of failures", err)
		}
		if failures >= disabledAt && kind != failedEnrollment {
			return disabled(kind)
		}
		if until := sqldb.FromMicros(blocked); now.Before(until) {
			return tooManyUntil(until, now)
		}
	}
	return nil
}

// countGuesses counts a wrong guess. The audit log learns of it when it begins a
// cool-down.
func countGuesses(ctx context.Context, tx *sqldb.Tx, a agent, now time.Time, kinds ...failureKind) error {
	var most int
	var longest time.Duration
	for _, kind := range kinds {
		var failures int
		err := tx.QueryRow(ctx, `INSERT INTO factor_failures (agent_id, kind, failures, blocked_time) VALUES (?, ?, 1, 0)
			ON CONFLICT (agent_id, kind) DO UPDATE SET failures = factor_failures.failures + 1 RETURNING failures`,
			a.id, string(kind)).Scan(&failures)
		if err != nil {
			return storeError("count a failure", err)
		}
		wait := coolOff(failures, maxFailures)
		if wait == 0 {
			continue
		}
		if kind != failedEnrollment {
			most, longest = max(most, failures), max(longest, wait)
		}
		_, err = tx.Exec(ctx, `UPDATE factor_failures SET blocked_time = ? WHERE agent_id = ? AND kind = ?`,
			sqldb.Micros(now.Add(wait)), a.id, string(kind))
		if err != nil {
			return storeError("begin a cool-down", err)
		}
	}
	if longest == 0 {
		return nil
	}
	return recordCoolDown(ctx, tx, a, most, longest)
}

// clearGuesses forgets wrong guesses after a right one.
func clearGuesses(ctx context.Context, tx *sqldb.Tx, agentID string, kinds ...failureKind) error {
	for _, kind := range kinds {
		_, err := tx.Exec(ctx, `DELETE FROM factor_failures WHERE agent_id = ? AND kind = ?`, agentID, string(kind))
		if err != nil {
			return storeError("clear a counter of failures", err)
		}
	}
	return nil
}
