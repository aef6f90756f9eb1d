package enforcement_test

import (
	"time"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// The oracle says what must be true in an account, for the property tests to
// compare the rule with. It shares no code and no state with the rule: it keeps
// all that ever happened, in whole ticks, and works out each answer from there.
type oracle struct {
	now    tick
	saves  []save
	people []*person
	logins []*login
}

// tick is a moment of the oracle's time. It is a nanosecond, the smallest step a
// time.Time can take, so that tests that meet an edge meet it exactly.
type tick int64

func (n tick) time() time.Time {
	return monday.Add(time.Duration(n))
}

// save is an admin pressing "Save", whether or not anything was altered.
type save struct {
	at       tick
	enforced bool
	grace    tick
	sso      bool
}

// person is somebody who signs in.
type person struct {
	role                  enforcement.Role
	password, sso, factor bool
	gone                  bool
	joined                tick
}

// login is a session that no sign-out, reset or enrollment has ended.
type login struct {
	who          *person
	viaSSO       bool
	secondFactor bool
	born         tick
}

// settings is what the last save said; before the first one everything is off.
func (o *oracle) settings() save {
	if len(o.saves) == 0 {
		return save{}
	}
	return o.saves[len(o.saves)-1]
}

// alterations counts the saves that altered anything.
func (o *oracle) alterations() int64 {
	var count int64
	previous := save{}
	for _, s := range o.saves {
		if s.enforced != previous.enforced || s.grace != previous.grace || s.sso != previous.sso {
			count++
		}
		previous = s
	}
	return count
}

// onSince goes back through the saves to the one that switched enforcement on.
func (o *oracle) onSince() (since tick, on bool) {
	for i := len(o.saves) - 1; i >= 0 && o.saves[i].enforced; i-- {
		since, on = o.saves[i].at, true
	}
	return since, on
}

// asks reports whether somebody who comes this way is asked for a second factor
// by us, rather than left to the identity provider.
func (o *oracle) asks(p *person, viaSSO bool) bool {
	if !viaSSO || o.settings().sso {
		return true
	}
	return p.password && (p.role == enforcement.RoleAdmin || p.role == enforcement.RoleOwner)
}

// asksSomehow reports whether there is a way in on which that person is asked.
func (o *oracle) asksSomehow(p *person) bool {
	byPassword := p.password || !p.sso // with neither they are invited, and will choose one
	return byPassword && o.asks(p, false) || p.sso && o.asks(p, true)
}

// end is the first tick at which the policy, as it stands, has ended the session.
func (o *oracle) end(l *login) (end tick, ends bool) {
	since, on := o.onSince()
	if !on || l.secondFactor || !o.asks(l.who, l.viaSSO) {
		return 0, false
	}
	if l.born < since {
		return since + o.settings().grace, true
	}
	return l.born, true
}

// step is what must follow a right first factor.
func (o *oracle) step(p *person, viaSSO bool) enforcement.Step {
	if o.asks(p, viaSSO) {
		if p.factor {
			return enforcement.StepChallenge
		}
		if o.settings().enforced {
			return enforcement.StepEnroll
		}
	}
	return enforcement.StepSession
}

// state is what admins must see of that person.
func (o *oracle) state(p *person) enforcement.MFAState {
	if p.factor {
		return enforcement.SetUp
	}
	if o.asksSomehow(p) {
		return enforcement.NotSetUp
	}
	return enforcement.ManagedBySSO
}

// mailed reports whether that person has to be told of the enforcement.
func (o *oracle) mailed(p *person) bool {
	since, on := o.onSince()
	return on && !p.gone && !p.factor && o.asksSomehow(p) && p.joined < since
}

// endLogins ends the sessions of that person, as a reset does.
func (o *oracle) endLogins(p *person) {
	var rest []*login
	for _, l := range o.logins {
		if l.who != p {
			rest = append(rest, l)
		}
	}
	o.logins = rest
}
