package enforcement

import "time"

// Covers reports whether the agent needs a second factor for at least one way of
// signing in. An agent who has a password is covered even if they come through
// SSO and are let in there without being asked.
func (p Policy) Covers(a Agent) bool {
	return p.Enforced && !p.waives(a.exempt())
}

// waives reports whether the policy lets an exemption stand. That does not depend
// on enforcement being on.
func (p Policy) waives(exempt bool) bool {
	return exempt && !p.ApplyToSSO
}

// Step is what follows a right first factor.
type Step string

// The steps after a right first factor.
const (
	// StepChallenge asks for the second factor.
	StepChallenge Step = "CHALLENGE"
	// StepEnroll leads to setting one up; there is no session before that.
	StepEnroll Step = "ENROLL"
	// StepSession gives out a session that has seen a first factor only.
	StepSession Step = "SESSION"
)

// NextStep decides how the sign-in of an active agent goes on after a right first
// factor. A second factor that is set up is asked for with enforcement off as
// well: it protects its owner, not only the account.
func (p Policy) NextStep(a Agent, first FirstFactor) Step {
	switch {
	case p.waives(a.ExemptVia(first)):
		return StepSession
	case a.HasFactor:
		return StepChallenge
	case p.Enforced:
		return StepEnroll
	default:
		return StepSession
	}
}

// Verdict is what the policy says about a session at one moment. The zero
// Verdict is over.
type Verdict struct {
	// Alive is false when the policy has ended the session.
	Alive bool
	// RevokeTime is when the policy will end a session that is alive; zero if,
	// as the policy stands, it will not.
	RevokeTime time.Time
}

// Judge decides whether the policy lets the session live at this moment.
func (p Policy) Judge(s Session, now time.Time) Verdict {
	if s.AssuranceLevel == AAL2 || !p.Enforced || p.waives(s.Exempt) {
		return Verdict{Alive: true}
	}
	revokeTime := p.SessionRevokeTime()
	if !s.CreateTime.Before(p.EnforceTime) || !now.Before(revokeTime) {
		return Verdict{}
	}
	return Verdict{Alive: true, RevokeTime: revokeTime}
}

// MayRemoveLastFactor reports whether the agent may be left without a second
// factor by their own hand. A reset by an admin is not bound by this.
func (p Policy) MayRemoveLastFactor(a Agent) bool {
	return !p.Covers(a)
}

// MFAState is how an agent stands with two-factor authentication, as admins see
// it.
type MFAState string

// The states of an agent.
const (
	NotSetUp MFAState = "NOT_SET_UP"
	SetUp    MFAState = "SET_UP"
	// ManagedBySSO: has no second factor here and needs none, signing in through
	// SSO alone.
	ManagedBySSO MFAState = "MANAGED_BY_SSO"
)

// MFAState shows admins how the agent stands. It reads the same before and after
// enforcement is switched on, so that they can see beforehand whom it will ask.
func (p Policy) MFAState(a Agent) MFAState {
	switch {
	case a.HasFactor:
		return SetUp
	case p.waives(a.exempt()):
		return ManagedBySSO
	default:
		return NotSetUp
	}
}

// Notifies reports whether the agent is mailed about the enforcement: everybody who
// still has to set up a second factor. Agents who joined since it began are left
// out, for their invitation says it.
func (p Policy) Notifies(a Agent) bool {
	return a.Active && p.Covers(a) && !a.HasFactor && a.CreateTime.Before(p.EnforceTime)
}
