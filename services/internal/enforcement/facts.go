package enforcement

import "time"

// The facts below come from other processes and older records, so a value this
// package does not know is possible. It is always read as the stricter one: an
// unknown first factor is not SSO, an unknown role may be an admin's, an unknown
// assurance level is below AAL2.

// Role is what an agent may do in the account.
type Role string

// The roles of an agent.
const (
	RoleAgent Role = "AGENT"
	RoleAdmin Role = "ADMIN"
	RoleOwner Role = "OWNER"
)

// FirstFactor is how somebody proved who they are before any second factor.
type FirstFactor string

// The first factors.
const (
	// Password was checked by us.
	Password FirstFactor = "PASSWORD"
	// SSO was asserted by the platform's own login.
	SSO FirstFactor = "SSO"
)

// AssuranceLevel is how much a sign-in proved, after NIST SP 800-63B.
type AssuranceLevel string

// The assurance levels.
const (
	// AAL1 is a first factor only.
	AAL1 AssuranceLevel = "AAL1"
	// AAL2 is a first and a second factor.
	AAL2 AssuranceLevel = "AAL2"
)

// Agent is what the rule needs to know about a person who signs in.
type Agent struct {
	Role Role
	// Active is false once the agent has been deactivated.
	Active bool
	// HasPassword says that a password opens a sign-in.
	HasPassword bool
	// HasSSO says that the agent comes through the platform's own login. With
	// neither, the agent is invited and will choose a password.
	HasSSO bool
	// HasFactor says that a second factor is set up; recovery codes alone are none.
	HasFactor  bool
	CreateTime time.Time
}

// ExemptVia reports whether a sign-in with this first factor is left to the
// identity provider by every policy that does not apply to SSO. An admin who has
// a password is never exempt: the identity provider cannot answer for somebody
// who is able to go round it and change the policy.
//
// The answer depends on no policy. A session keeps it from its creation on; what
// could alter it, a change of role or password, ends the session.
func (a Agent) ExemptVia(first FirstFactor) bool {
	return first == SSO && (a.Role == RoleAgent || !a.HasPassword)
}

// exempt reports whether every way in which this agent signs in is exempt.
func (a Agent) exempt() bool {
	return a.HasSSO && !a.HasPassword
}

// Session is what the rule needs to know about a session. It travels with the
// session, so that a verdict needs nobody else.
type Session struct {
	// Exempt is Agent.ExemptVia as it was at sign-in.
	Exempt         bool
	AssuranceLevel AssuranceLevel
	CreateTime     time.Time
}
