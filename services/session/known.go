package session

import (
	"encoding/binary"
	"errors"
	"time"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// known is what a bucket knows of an account's enforcement: the policy in force,
// and those before it that had ended sessions. The rule has no memory: a session
// it ended would live again once enforcement is off, or its deadline moved.
type known struct {
	policy enforcement.Policy
	past   []pastPolicy
}

// pastPolicy was in force until a moment. What it had ended by then is over.
type pastPolicy struct {
	policy enforcement.Policy
	until  time.Time
}

// pastLimit bounds the memory. Beyond it, those go first that had reached no
// deadline: what they ended are only sessions that slipped through a race.
const pastLimit = 8

const (
	flagEnforced = 1 << iota
	flagSSO
)

var errKnown = errors.New("session: an enforcement in the store cannot be read")

// judge applies the rule to a session. lowered is when it fell back from AAL2,
// zero for never: what was in force before that had no reason to end it.
func (k *known) judge(s enforcement.Session, lowered, now time.Time) enforcement.Verdict {
	for _, p := range k.past {
		if s.CreateTime.Before(p.until) && !lowered.After(p.until) && !p.policy.Judge(s, p.until).Alive {
			return enforcement.Verdict{}
		}
	}
	return k.policy.Judge(s, now)
}

// next is what is known once a newer policy, saved at the given time, took over.
// The policies before it are forgotten when no session is old enough for them.
func (k *known) next(policy enforcement.Policy, saved time.Time, maxAge time.Duration) *known {
	n := &known{policy: policy}
	if k == nil {
		return n
	}
	past := k.past
	if old := k.policy; old.Enforced && !covers(policy, old, saved) {
		past = append(past[:len(past):len(past)], pastPolicy{policy: old, until: saved})
	}
	for i, p := range past {
		if p.until.After(saved.Add(-maxAge)) && !covered(p, past[i+1:]) {
			n.past = append(n.past, p)
		}
	}
	for len(n.past) > pastLimit {
		drop := 0
		for i, p := range n.past {
			if !p.reachedDeadline() {
				drop = i
				break
			}
		}
		n.past = append(n.past[:drop], n.past[drop+1:]...)
	}
	return n
}

// covers reports whether a newer policy by itself ends all that the older one has
// ended: the same enforcement, before its deadline.
func covers(newer, older enforcement.Policy, saved time.Time) bool {
	return newer.Enforced && newer.EnforceTime.Equal(older.EnforceTime) &&
		(newer.ApplyToSSO || !older.ApplyToSSO) && saved.Before(older.SessionRevokeTime())
}

// covered reports whether a later policy ended everything that p had.
func covered(p pastPolicy, later []pastPolicy) bool {
	for _, l := range later {
		if l.reachedDeadline() && !l.until.Before(p.until) && (l.policy.ApplyToSSO || !p.policy.ApplyToSSO) {
			return true
		}
	}
	return false
}

func (p pastPolicy) reachedDeadline() bool { return !p.until.Before(p.policy.SessionRevokeTime()) }

func (k *known) encode() string {
	b := make([]byte, 0, 64)
	b = appendPolicy(b, k.policy)
	b = append(b, byte(len(k.past))) //nolint:gosec // at most pastLimit
	for _, p := range k.past {
		b = appendPolicy(b, p.policy)
		b = binary.AppendVarint(b, p.until.UnixMicro())
	}
	return string(b)
}

func appendPolicy(b []byte, p enforcement.Policy) []byte {
	var flags byte
	if p.Enforced {
		flags |= flagEnforced
	}
	if p.ApplyToSSO {
		flags |= flagSSO
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, p.Revision)
	if p.Enforced {
		b = binary.AppendVarint(b, p.EnforceTime.UnixMicro())
		b = binary.AppendVarint(b, p.GracePeriod.Microseconds())
	}
	return b
}

func decodeKnown(value string) (*known, error) {
	d := decoder{rest: value}
	k := &known{policy: d.policy()}
	for range min(d.byte(), pastLimit) {
		p := pastPolicy{policy: d.policy()}
		p.until = time.UnixMicro(d.varint()).UTC()
		k.past = append(k.past, p)
	}
	if d.failed || d.rest != "" {
		return nil, errKnown
	}
	return k, nil
}

func (d *decoder) policy() enforcement.Policy {
	flags := d.byte()
	p := enforcement.Policy{Revision: d.varint()}
	p.ApplyToSSO = flags&flagSSO != 0
	if flags&flagEnforced != 0 {
		p.Enforced = true
		p.EnforceTime = time.UnixMicro(d.varint()).UTC()
		p.GracePeriod = time.Duration(d.varint()) * time.Microsecond
	}
	return p
}

// told is an enforcement as another service told it.
type told struct {
	account string
	policy  enforcement.Policy
	saved   time.Time
}

// read takes an enforcement out of a request. When it does not say when it was
// saved, it counts as saved a sweep's delay ago: within that time after a deadline
// nothing was ended for good.
func (c Config) read(e *sessionv1.Enforcement, now time.Time) (told, error) {
	if !validAccount(e.GetAccount()) {
		return told{}, invalidField("enforcement.account", "This is no account id.")
	}
	if e.GetRevision() < 1 {
		return told{}, invalidField("enforcement.revision", "Revisions count from 1.")
	}
	t := told{account: e.GetAccount(), saved: now.Add(-c.SweepDelay), policy: enforcement.Policy{
		Revision: e.GetRevision(),
		Settings: enforcement.Settings{
			Enforced: e.GetEnforced(), GracePeriod: e.GetGracePeriod().AsDuration(), ApplyToSSO: e.GetApplyToSso(),
		},
	}}
	if e.GetUpdateTime() != nil {
		t.saved = e.GetUpdateTime().AsTime()
	}
	if !t.policy.Enforced {
		return t, nil
	}
	if e.GetEnforceTime() == nil {
		return told{}, invalidField("enforcement.enforce_time", "An enforcement that is on has a time it began.")
	}
	if t.policy.GracePeriod < 0 {
		return told{}, invalidField("enforcement.grace_period", "A grace period is not negative.")
	}
	t.policy.EnforceTime = e.GetEnforceTime().AsTime()
	return t, nil
}
