package session

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// indexMargin keeps members of indexes for a while after their end: a copy whose
// clock is ahead must not lose sessions that are alive for the others.
const indexMargin = time.Hour

// swapTries bounds how often a change is tried that others kept overtaking.
const swapTries = 16

// store keeps sessions in Redis. Its methods are atomic within a bucket; what
// covers more says so.
type store struct {
	db      redis.UniversalClient
	cfg     Config
	scripts scripts
	floor   *floor
	// changed is called with the bucket of a revocation that has to be told.
	changed func(bucket int)
}

// surroundings are what decides about a session beside its record.
type surroundings struct {
	knownRaw string // "" for none
	known    *known // nil for none
	minimum  int64
	meta     meta
}

// observe reads what surrounds sessions of an agent (enforcement, minimum version,
// meta) and more keys of the bucket in one command. A bucket that is not current
// decides nothing.
func (s *store) observe(ctx context.Context, db redis.Cmdable, agent agentRef, keys ...string) (surroundings, []*string, error) {
	at, known := s.floor.get()
	if !known {
		return surroundings{}, nil, errRebuilding()
	}
	bucket := agent.bucket()
	keys = append([]string{enforcementKey(bucket, agent.account), agent.versionKey(), metaKey(bucket)}, keys...)
	for {
		values, err := mget(ctx, db, keys...)
		if err != nil {
			return surroundings{}, nil, err
		}
		around, err := readSurroundings(values)
		if err != nil {
			return around, nil, err
		}
		// The floor counts as it is after the read, for the read may have begun a
		// new connection and so raised it. Where it rose because of an event, the
		// bucket rose before it, and is read again.
		before := at
		at, _ = s.floor.get()
		switch {
		case around.meta.current(at):
			return around, values[3:], nil
		case at == before:
			return around, nil, errRebuilding()
		}
	}
}

func readSurroundings(values []*string) (surroundings, error) {
	var out surroundings
	if values[2] == nil {
		return out, errRebuilding()
	}
	var err error
	if out.meta, err = decodeMeta(*values[2]); err != nil {
		return out, unavailable(err)
	}
	if values[1] != nil {
		if out.minimum, err = strconv.ParseInt(*values[1], 10, 64); err != nil {
			return out, unavailable(err)
		}
	}
	if values[0] != nil {
		out.knownRaw = *values[0]
		if out.known, err = decodeKnown(*values[0]); err != nil {
			return out, unavailable(err)
		}
	}
	return out, nil
}

// issue stores a new session, in place of another if there is one to replace.
func (s *store) issue(ctx context.Context, rec *record, carried told, replaces *stored, now time.Time) error {
	bucket := rec.ref.bucket()
	old := sessionRef{agentRef: rec.ref.agentRef}
	c := call{
		keys: []string{
			enforcementKey(bucket, rec.ref.account), rec.ref.versionKey(), rec.ref.key(), rec.ref.shardKey(),
			aal1Key(bucket, rec.ref.account, rec.exempt), old.key(),
			aal1Key(bucket, rec.ref.account, false), aal1Key(bucket, rec.ref.account, true), outboxKey(bucket),
		},
		args: []any{
			"", "", rec.agentVersion, rec.encode(), rec.ttl(s.cfg, now), rec.ref.member(),
			rec.end(s.cfg).UnixMilli(), flagText(!rec.aal2), now.Add(-indexMargin).UnixMilli(), s.cfg.fenceAge().Milliseconds(),
			"", "", s.cfg.Retention.Milliseconds(), "", rec.ref.account, int(sessionv1.SessionsRevoked_REVOKED), now.UnixMicro(),
		},
	}
	if replaces != nil {
		old = replaces.record.ref
		c.keys[5] = old.key()
		c.args[10], c.args[11], c.args[13] = replaces.raw,
			tombstone{cause: sessionv1.SessionsRevoked_REVOKED, hash: replaces.record.hash}.encode(), old.member()
	}
	for range swapTries {
		around, _, err := s.observe(ctx, s.db, rec.ref.agentRef)
		if err != nil {
			return err
		}
		if idTime(rec.ref.id).Before(around.meta.born) {
			// The copy that found the bucket empty has a clock ahead of ours.
			return errRebuilding()
		}
		c.args[0], c.args[1] = around.knownRaw, ""
		switch {
		case around.known != nil && around.known.policy.Revision > carried.policy.Revision:
			return errPolicyStale()
		case around.known == nil || around.known.policy.Revision < carried.policy.Revision:
			c.args[1] = around.known.next(carried.policy, carried.saved, s.cfg.fenceAge()).encode()
		}
		result, err := s.run(ctx, s.scripts.issue, c)
		switch {
		case err != nil:
			return err
		case result == issueDone:
			if replaces != nil {
				s.changed(bucket)
			}
			return nil
		case result == issueVersionStale:
			return errVersionStale()
		case result == issueReplacedChanged:
			return errReplacedChanged
		}
	}
	return errOvertaken()
}

// ending says which sessions to end, and why. They are of one account, in one
// bucket.
type ending struct {
	sessions []sessionRef
	cause    sessionv1.SessionsRevoked_Cause
	// below ends only sessions of agent versions below; 0 ends all.
	below int64
	// known is the enforcement the decision was made on; "" if on none.
	known string
	// silent ends without telling: it was told before.
	silent bool
	// origin is the call that the log tells of; nil where it does not.
	origin *eventv1.Origin
}

// end ends sessions in batches and returns how many were alive. With an
// enforcement that is no longer there it returns endKnownChanged.
func (s *store) end(ctx context.Context, e ending, now time.Time) (int64, error) {
	origin, err := encodeOrigin(e.origin)
	if err != nil {
		return 0, err
	}
	var total int64
	for len(e.sessions) > 0 {
		batch := e.sessions[:min(len(e.sessions), s.cfg.SweepBatch)]
		e.sessions = e.sessions[len(batch):]
		account, bucket := batch[0].account, batch[0].bucket()
		c := call{
			keys: []string{
				enforcementKey(bucket, account), aal1Key(bucket, account, false), aal1Key(bucket, account, true), outboxKey(bucket),
			},
			args: []any{e.known, int(e.cause), s.cfg.Retention.Milliseconds(), e.below, now.UnixMicro(), flagText(!e.silent), account, origin},
		}
		for _, ref := range batch {
			c.keys = append(c.keys, ref.key(), ref.shardKey())
			c.args = append(c.args, ref.member())
		}
		n, err := s.run(ctx, s.scripts.end, c)
		if err != nil {
			return total, err
		}
		if n == endKnownChanged {
			return n, nil
		}
		if n > 0 && !e.silent {
			s.changed(bucket)
		}
		total += n
	}
	return total, nil
}

// fence says which sessions of an agent are over.
type fence struct {
	agent   agentRef
	version int64       // sessions below are over
	keep    *sessionRef // but for this one, which is raised to version; nil for none
	lowered time.Time   // when the one that stays fell back to AAL1; zero if it does not
}

// fence makes the sessions over, at once and for good. Ending them is what remains
// to be done.
func (s *store) fence(ctx context.Context, f fence, now time.Time) error {
	c := call{
		keys: []string{f.agent.versionKey(), sessionRef{agentRef: f.agent}.key()},
		args: []any{f.version, s.cfg.fenceAge().Milliseconds(), flagText(f.keep != nil)},
	}
	if f.keep != nil {
		c.keys[1] = f.keep.key()
		if !f.lowered.IsZero() {
			// First, so that nobody meets the session raised and not yet lowered.
			if err := s.lower(ctx, *f.keep, f.lowered, now); err != nil {
				return err
			}
		}
	}
	_, err := s.run(ctx, s.scripts.fence, c)
	return err
}

// lower lets a session fall back to AAL1: its agent has no second factor any more,
// so it must not decide what takes one. A session never rises again under its
// name, so that doing this late, or twice, takes nothing from anybody.
func (s *store) lower(ctx context.Context, ref sessionRef, at, now time.Time) error {
	for range swapTries {
		values, err := s.getAll(ctx, []string{ref.key()})
		if err != nil || values[0] == nil {
			return err
		}
		rec, _, err := decodeRecord(ref.id, *values[0])
		switch {
		case err != nil:
			return unavailable(err)
		case rec == nil || rec.ref != ref || !rec.aal2:
			return nil
		}
		lowered := *rec
		lowered.aal2, lowered.factorVerify, lowered.lowered = false, time.Time{}, at
		written, err := s.run(ctx, s.scripts.rewrite, s.rewriteCall(*values[0], &lowered, now))
		if err != nil || written == 1 {
			return err
		}
	}
	return errOvertaken()
}

// rewriteCall puts a record in the place of what was read.
func (s *store) rewriteCall(read string, rec *record, now time.Time) call {
	ref := rec.ref
	return call{
		keys: []string{ref.key(), ref.shardKey(), aal1Key(ref.bucket(), ref.account, rec.exempt)},
		args: []any{
			read, rec.encode(), rec.ttl(s.cfg, now), rec.end(s.cfg).UnixMilli(), ref.member(), flagText(!rec.aal2),
			s.cfg.fenceAge().Milliseconds(),
		},
	}
}

// sessionsOf lists an agent's sessions as the index has them: some may be over.
func (s *store) sessionsOf(ctx context.Context, agent agentRef) ([]sessionRef, error) {
	members, err := s.db.ZRange(ctx, agent.shardKey(), 0, -1).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	var refs []sessionRef
	for _, member := range members {
		// Agents' ids are unique beyond their account, so the account is right.
		if ref, ok := memberRef(agent.account, member); ok && ref.agent == agent.agent {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// stored is a session as it was read.
type stored struct {
	raw    string
	record *record
}

// read reads sessions of one agent, and what decides about them. What is over or
// gone is left out.
func (s *store) read(ctx context.Context, agent agentRef, refs []sessionRef, now time.Time) ([]stored, surroundings, error) {
	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = ref.key()
	}
	around, values, err := s.observe(ctx, s.db, agent, keys...)
	if err != nil {
		return nil, around, err
	}
	var live []stored
	for i, value := range values {
		if value == nil {
			continue
		}
		rec, _, err := decodeRecord(refs[i].id, *value)
		if err != nil {
			return nil, around, unavailable(err)
		}
		if rec == nil || rec.ref.agentRef != agent {
			continue
		}
		if _, err := around.judge(s.cfg, rec, now); err == nil {
			live = append(live, stored{raw: *value, record: rec})
		} else if !isOver(err) {
			return nil, around, err
		}
	}
	return live, around, nil
}

// readOne reads a session that stands, or says why it does not.
func (s *store) readOne(ctx context.Context, ref sessionRef, now time.Time) (stored, error) {
	around, values, err := s.observe(ctx, s.db, ref.agentRef, ref.key())
	if err != nil {
		return stored{}, err
	}
	if values[0] == nil {
		return stored{}, around.missing(ref)
	}
	rec, tomb, err := decodeRecord(ref.id, *values[0])
	switch {
	case err != nil:
		return stored{}, unavailable(err)
	case tomb != nil:
		return stored{}, errEnded(tomb.cause)
	case rec.ref != ref:
		return stored{}, errUnknown()
	}
	_, err = around.judge(s.cfg, rec, now)
	return stored{raw: *values[0], record: rec}, err
}

// policyOf is an account's policy as the first bucket knows it; off if it knows
// none, for then there are no sessions it could end.
func (s *store) policyOf(ctx context.Context, account string) (enforcement.Policy, error) {
	values, err := s.getAll(ctx, []string{enforcementKey(0, account)})
	if err != nil || values[0] == nil {
		return enforcement.Policy{}, err
	}
	k, err := decodeKnown(*values[0])
	if err != nil {
		return enforcement.Policy{}, unavailable(err)
	}
	return k.policy, nil
}

// learn makes an enforcement known in all buckets, each by itself, and returns the
// newest revision that any of them knows.
func (s *store) learn(ctx context.Context, t told) (int64, error) {
	newest := t.policy.Revision
	open := make([]int, buckets)
	for bucket := range open {
		open[bucket] = bucket
	}
	for range swapTries {
		keys := make([]string, len(open))
		for i, bucket := range open {
			keys[i] = enforcementKey(bucket, t.account)
		}
		values, err := s.getAll(ctx, keys)
		if err != nil {
			return 0, err
		}
		var calls []call
		var tried []int
		for i, value := range values {
			var before *known
			expected := ""
			if value != nil {
				expected = *value
				if before, err = decodeKnown(expected); err != nil {
					return 0, unavailable(err)
				}
				if before.policy.Revision >= t.policy.Revision {
					newest = max(newest, before.policy.Revision)
					continue
				}
			}
			after := before.next(t.policy, t.saved, s.cfg.fenceAge()).encode()
			calls = append(calls, call{keys: keys[i : i+1], args: []any{expected, after}})
			tried = append(tried, open[i])
		}
		if len(calls) == 0 {
			return newest, nil
		}
		results, err := s.runAll(ctx, s.scripts.swap, calls)
		if err != nil {
			return 0, err
		}
		open = open[:0]
		for i, result := range results {
			if result == 0 {
				open = append(open, tried[i])
			}
		}
		if len(open) == 0 {
			return newest, nil
		}
	}
	return 0, errOvertaken()
}

// counts are an account's sessions at AAL1 that have not ended by themselves.
type counts struct{ covered, exempt int64 }

// count counts them over all buckets.
func (s *store) count(ctx context.Context, account string, now time.Time) (counts, error) {
	cmds, err := s.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		from := "(" + strconv.FormatInt(now.UnixMilli(), 10)
		for bucket := range buckets {
			p.ZCount(ctx, aal1Key(bucket, account, false), from, "+inf")
			p.ZCount(ctx, aal1Key(bucket, account, true), from, "+inf")
		}
		return nil
	})
	if err != nil {
		return counts{}, unavailable(err)
	}
	var out counts
	for i, cmd := range cmds {
		n := cmd.(*redis.IntCmd).Val()
		if i%2 == 0 {
			out.covered += n
		} else {
			out.exempt += n
		}
	}
	return out, nil
}

func flagText(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
