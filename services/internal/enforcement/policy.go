package enforcement

import "time"

// Settings is what an admin chooses.
type Settings struct {
	// Enforced says whether agents need a second factor.
	Enforced bool
	// GracePeriod is how long sessions from before the enforcement live on.
	GracePeriod time.Duration
	// ApplyToSSO takes in the agents who sign in through SSO. Switched on during
	// an enforcement it brings no grace period of its own: their sessions meet
	// the same two edges as everybody's.
	ApplyToSSO bool
}

// Policy is an account's settings as they stand. The zero Policy is that of an
// account which never changed anything, with enforcement off. It does not mean
// "unknown": whoever cannot read a policy has an error to report, not a Policy
// to ask.
type Policy struct {
	Settings
	// Revision counts the changes. Of two policies of one account, the one with
	// the higher revision is in force.
	Revision int64
	// EnforceTime is when this enforcement began; zero while it is off.
	EnforceTime time.Time
}

// Transition is what a change did, and so which event tells of it.
type Transition string

// The transitions of a policy.
const (
	// Unchanged: the policy already was as desired. No revision, no event.
	Unchanged Transition = "UNCHANGED"
	// Enabled: an enforcement began, the first or a later one.
	Enabled Transition = "ENABLED"
	// Updated: other settings changed; enforcement stays as it was, on or off.
	Updated Transition = "UPDATED"
	// Disabled: the enforcement ended, whatever else changed with it.
	Disabled Transition = "DISABLED"
)

// Change returns the policy with the desired settings, and what that did to it.
// Saving what is already so changes nothing, hence a repeated request neither
// restarts a grace period nor uses up a revision. Enabling again after
// disabling begins a new enforcement with a full grace period.
//
// now must come from the clock of the database that stores the policy.
func (p Policy) Change(desired Settings, now time.Time) (Policy, Transition) {
	if desired == p.Settings {
		return p, Unchanged
	}
	next := Policy{Settings: desired, Revision: p.Revision + 1, EnforceTime: p.EnforceTime}
	switch {
	case desired.Enforced && !p.Enforced:
		next.EnforceTime = now
		return next, Enabled
	case p.Enforced && !desired.Enforced:
		next.EnforceTime = time.Time{}
		return next, Disabled
	default:
		return next, Updated
	}
}

// SessionRevokeTime is the instant from which the sessions from before the
// enforcement are over; zero while enforcement is off.
func (p Policy) SessionRevokeTime() time.Time {
	if !p.Enforced {
		return time.Time{}
	}
	return p.EnforceTime.Add(p.GracePeriod)
}
