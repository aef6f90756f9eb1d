package auth

import (
	"context"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/auth/address"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// Limits on guessing passwords. They are kept for whoever is signing in, known or
// not, from one network address: nobody is kept out by what others do elsewhere.
// What all of them together do makes every address more impatient, so that many
// addresses gain little; but none of them is ever shut out before it has failed
// itself.
const (
	// passwordPatience wrong passwords from one address begin a cool-down there.
	passwordPatience = 10
	// passwordAlarm wrong passwords from all addresses together lower that to
	// alarmedPatience.
	passwordAlarm   = 100
	alarmedPatience = 3
	// passwordMemory is how long failures count after the latest of them.
	passwordMemory = 24 * time.Hour
	// addressBits6 is how much of an IPv6 address counts: people are given a whole
	// network of that size.
	addressBits6 = 64
)

const purposePasswordFailures keyring.Purpose = "password-failures"

// guesser is who tries to sign in, and from where, by the ids of the rows that
// count their failures.
type guesser struct{ everywhere, here counted }

// counted names the rows of one count: one under each key of the keyring. Only the
// first is raised; the others are what was counted before another key became
// primary, and is still being counted by copies that do not know that yet. So
// nobody gets more guesses by a rotation.
type counted []string

// first is the row under the primary key.
func (c counted) first() string { return c[0] }

// all are the rows, as arguments of a statement.
func (c counted) all() (ids []any) {
	for _, id := range c {
		ids = append(ids, id)
	}
	return ids
}

// newGuesser names the rows. email is as typed: to tell a known address from an
// unknown one by the limits must be impossible too.
func (s *store) newGuesser(account, email string, from netip.Addr) guesser {
	key := strings.ToLower(email)
	if parsed, err := address.Parse(email); err == nil {
		key = parsed.Key()
	}
	place := ""
	switch {
	case from.Is6():
		if network, err := from.Prefix(addressBits6); err == nil {
			place = network.String()
		}
	case from.IsValid():
		place = from.String()
	}
	name := func(words ...string) (ids counted) {
		for _, mac := range s.keys.MACs(purposePasswordFailures, words...) {
			ids = append(ids, base64.RawURLEncoding.EncodeToString(mac))
		}
		return ids
	}
	return guesser{everywhere: name("everywhere", account, key), here: name("here", account, key, place)}
}

// checkPasswords refuses a password that may not be tried now. It returns how
// many have failed here.
func (s *store) checkPasswords(ctx context.Context, g guesser) (failed int, err error) {
	var blocked, now int64
	err = s.db.QueryRow(ctx, `SELECT COALESCE(SUM(failures), 0), COALESCE(MAX(blocked_time), 0), `+s.db.NowExpr()+`
		FROM password_failures WHERE id IN (`+sqldb.Placeholders(len(g.here))+`)`, g.here.all()...).
		Scan(&failed, &blocked, &now)
	switch {
	case err != nil:
		return 0, storeError("read failed passwords", err)
	case now < blocked:
		return failed, tooManyUntil(sqldb.FromMicros(blocked), sqldb.FromMicros(now))
	}
	return failed, nil
}

// countPassword counts a wrong password, in a transaction of its own. It refuses
// one that was tried beside others which have used up what was left: then it tells
// no more than if it had come after them.
func (s *store) countPassword(ctx context.Context, g guesser) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		everywhere, _, _, err := raisePassword(ctx, tx, g.everywhere)
		if err != nil {
			return err
		}
		here, blocked, now, err := raisePassword(ctx, tx, g.here)
		if err != nil {
			return err
		}
		if now.Before(blocked) {
			return tooManyUntil(blocked, now)
		}
		patience := passwordPatience
		if everywhere > passwordAlarm {
			patience = alarmedPatience
		}
		wait := coolOff(here, patience)
		if wait == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE password_failures SET blocked_time = ? WHERE id = ?`, sqldb.Micros(now.Add(wait)), g.here.first())
		return storeError("begin a cool-down", err)
	})
}

// raisePassword adds a failure to a count, whose first row it locks. The clock is
// read after that.
func raisePassword(ctx context.Context, tx *sqldb.Tx, ids counted) (failures int, blocked, now time.Time, err error) {
	id := ids.first()
	_, err = tx.Exec(ctx, `INSERT INTO password_failures (id, failures, blocked_time, update_time) VALUES (?, 0, 0, 0)
		ON CONFLICT (id) DO UPDATE SET failures = password_failures.failures`, id)
	if err != nil {
		return 0, blocked, now, storeError("lock failed passwords", err)
	}
	if now, err = tx.Now(ctx); err != nil {
		return 0, blocked, now, err
	}
	forgotten := sqldb.Micros(now.Add(-passwordMemory))
	_, err = tx.Exec(ctx, `UPDATE password_failures SET
			failures = CASE WHEN update_time <= ? THEN 1 ELSE failures + 1 END, update_time = ?
		WHERE id = ?`, forgotten, sqldb.Micros(now), id)
	if err != nil {
		return 0, blocked, now, storeError("count a failed password", err)
	}
	var blockedMicros int64
	err = tx.QueryRow(ctx, `SELECT SUM(failures), MAX(blocked_time) FROM password_failures
		WHERE id IN (`+sqldb.Placeholders(len(ids))+`) AND update_time > ?`, append(ids.all(), forgotten)...).
		Scan(&failures, &blockedMicros)
	return failures, sqldb.FromMicros(blockedMicros), now, storeError("count a failed password", err)
}

// clearPasswords forgets what failed here after the right password. What failed
// everywhere stays: it was somebody else.
func (s *store) clearPasswords(ctx context.Context, g guesser) error {
	_, err := s.db.Exec(ctx, `DELETE FROM password_failures WHERE id IN (`+sqldb.Placeholders(len(g.here))+`)`, g.here.all()...)
	return storeError("clear failed passwords", err)
}
