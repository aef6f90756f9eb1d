package notifier

import (
	"time"

	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// verdict says what to do with a notice whose turn it is.
type verdict int

const (
	// send hands it to the mail server.
	send verdict = iota + 1
	// suppress ends it: there is nothing to tell any more.
	suppress
	// wait leaves it for a moment, because the answer depends on a mail that is
	// being handed over right now.
	wait
)

// recipient is what auth says of an agent now; the zero value is nobody.
type recipient struct {
	email, displayName string
	active             bool
	notSetUp           bool // the policy covers them and they have no factor
}

// told is a notice about the policy that an agent has, or is just getting.
type told struct {
	id             string
	kind           mail.Kind
	sending        bool // not known yet
	policyRevision int64
	enforceTime    time.Time
	revokeTime     time.Time
}

// decide says what to do with a notice, given the terms in force, what auth says
// of its agent, and what else about the policy the agent was told. previous is the
// later deadline that the agent was told before, if any.
func decide(n notice, t terms, to recipient, history []told) (v verdict, previous time.Time) {
	if !to.active && !isForEarlierAddress(n.kind) {
		return suppress, time.Time{}
	}
	if isOfPolicy(n.kind) && n.policyRevision != t.revision {
		return suppress, time.Time{}
	}
	switch n.kind {
	case mail.KindEnforcementEnabled:
		return decideEnabled(n, t, to, history)
	case mail.KindEnforcementLifted:
		return decideLifted(n, t, history), time.Time{}
	default:
		return send, time.Time{}
	}
}

// decideEnabled keeps from telling an agent a deadline that is no earlier than one
// they know already, and tells no agent who has nothing to do.
func decideEnabled(n notice, t terms, to recipient, history []told) (v verdict, previous time.Time) {
	if !t.enforced || !to.notSetUp {
		return suppress, time.Time{}
	}
	var newest int64
	for _, h := range history {
		if h.id == n.id || h.kind != mail.KindEnforcementEnabled || !h.enforceTime.Equal(n.enforceTime) {
			continue
		}
		switch {
		case h.sending:
			return wait, time.Time{}
		case h.revokeTime.After(n.revokeTime):
			if h.policyRevision > newest {
				newest, previous = h.policyRevision, h.revokeTime
			}
		case !n.resent:
			return suppress, time.Time{}
		}
	}
	return send, previous
}

// decideLifted tells only those whose last word about the policy was that a second
// factor is required.
func decideLifted(n notice, t terms, history []told) verdict {
	if t.enforced {
		return suppress
	}
	if n.resent {
		return send
	}
	var last told
	for _, h := range history {
		if h.id == n.id {
			continue
		}
		if h.sending && h.kind == mail.KindEnforcementEnabled {
			return wait
		}
		if h.policyRevision > last.policyRevision {
			last = h
		}
	}
	if last.kind == mail.KindEnforcementEnabled {
		return send
	}
	return suppress
}
