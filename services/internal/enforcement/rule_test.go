package enforcement_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// People of every kind that the rule tells apart. All are active, were there
// before monday and have no second factor yet.
var (
	agent = enforcement.Agent{
		Role: enforcement.RoleAgent, Active: true, HasPassword: true, CreateTime: monday.Add(-week),
	}
	invited = enforcement.Agent{
		Role: enforcement.RoleAgent, Active: true, CreateTime: monday.Add(-week),
	}
	ssoAgent = enforcement.Agent{
		Role: enforcement.RoleAgent, Active: true, HasSSO: true, CreateTime: monday.Add(-week),
	}
	bothAgent = enforcement.Agent{
		Role: enforcement.RoleAgent, Active: true, HasSSO: true, HasPassword: true, CreateTime: monday.Add(-week),
	}
)

func withRole(role enforcement.Role, a enforcement.Agent) enforcement.Agent {
	a.Role = role
	return a
}

func withFactor(a enforcement.Agent) enforcement.Agent {
	a.HasFactor = true
	return a
}

func deactivated(a enforcement.Agent) enforcement.Agent {
	a.Active = false
	return a
}

func createdAt(created time.Time, a enforcement.Agent) enforcement.Agent {
	a.CreateTime = created
	return a
}

// The policies those people live under.
var (
	off       = enforcement.Policy{}
	on        = enforcedSince(monday)
	onWithSSO = enforcement.Policy{
		Settings:    enforcement.Settings{Enforced: true, GracePeriod: week, ApplyToSSO: true},
		Revision:    2,
		EnforceTime: monday,
	}
	offWithSSO = enforcement.Policy{Settings: enforcement.Settings{ApplyToSSO: true}}
)

// Whom the policy covers, and what follows from it for a person who has no second
// factor: what admins see, who is told, who may not remove a factor.
func TestCoverage(t *testing.T) {
	for _, tc := range []struct {
		name    string
		policy  enforcement.Policy
		agent   enforcement.Agent
		covered bool
		state   enforcement.MFAState
	}{
		{"nobody while enforcement is off", off, agent, false, enforcement.NotSetUp},
		{"an agent with a password", on, agent, true, enforcement.NotSetUp},
		{"an admin with a password alike", on, withRole(enforcement.RoleAdmin, agent), true, enforcement.NotSetUp},
		{"an owner with a password alike", on, withRole(enforcement.RoleOwner, agent), true, enforcement.NotSetUp},
		{"an invited agent, who will have a password", on, invited, true, enforcement.NotSetUp},
		{"an agent with a password who may also use SSO", on, bothAgent, true, enforcement.NotSetUp},
		{"not an agent who has only SSO", on, ssoAgent, false, enforcement.ManagedBySSO},
		{"not an admin who has only SSO", on, withRole(enforcement.RoleAdmin, ssoAgent), false, enforcement.ManagedBySSO},
		{"an admin with SSO and a password", on, withRole(enforcement.RoleAdmin, bothAgent), true, enforcement.NotSetUp},
		{"an agent who has only SSO, where the policy applies to SSO", onWithSSO, ssoAgent, true, enforcement.NotSetUp},
		{"an SSO agent is managed by SSO before any enforcement", off, ssoAgent, false, enforcement.ManagedBySSO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.covered, tc.policy.Covers(tc.agent))
			require.Equal(t, tc.covered, tc.policy.Notifies(tc.agent))
			require.Equal(t, !tc.covered, tc.policy.MayRemoveLastFactor(withFactor(tc.agent)))
			require.Equal(t, tc.state, tc.policy.MFAState(tc.agent))
			require.Equal(t, enforcement.SetUp, tc.policy.MFAState(withFactor(tc.agent)))
		})
	}
}

func TestNextStep(t *testing.T) {
	admin := withRole(enforcement.RoleAdmin, bothAgent)

	const (
		challenge = enforcement.StepChallenge
		enroll    = enforcement.StepEnroll
		session   = enforcement.StepSession
	)
	for _, tc := range []struct {
		name          string
		policy        enforcement.Policy
		agent         enforcement.Agent
		first         enforcement.FirstFactor
		withoutFactor enforcement.Step
		withAFactor   enforcement.Step
	}{
		{"password, enforcement off", off, agent, enforcement.Password, session, challenge},
		{"password, enforced", on, agent, enforcement.Password, enroll, challenge},
		{"password, enforced, an owner", on, withRole(enforcement.RoleOwner, agent), enforcement.Password, enroll, challenge},
		{"password, enforced, though SSO would do", on, bothAgent, enforcement.Password, enroll, challenge},
		{"SSO, enforcement off", off, ssoAgent, enforcement.SSO, session, session},
		{"SSO, enforced without SSO", on, ssoAgent, enforcement.SSO, session, session},
		{"SSO, enforced without SSO, though a password would do", on, bothAgent, enforcement.SSO, session, session},
		{"SSO, enforced with SSO", onWithSSO, ssoAgent, enforcement.SSO, enroll, challenge},
		{"SSO, applied to SSO but off: a factor is still asked for", offWithSSO, ssoAgent, enforcement.SSO, session, challenge},
		{"SSO, an admin without a password", on, withRole(enforcement.RoleAdmin, ssoAgent), enforcement.SSO, session, session},
		{"SSO, an admin with a password, enforced", on, admin, enforcement.SSO, enroll, challenge},
		{"SSO, an admin with a password, off", off, admin, enforcement.SSO, session, challenge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.withoutFactor, tc.policy.NextStep(tc.agent, tc.first))
			require.Equal(t, tc.withAFactor, tc.policy.NextStep(withFactor(tc.agent), tc.first))
		})
	}
}

func TestJudge(t *testing.T) {
	const instant = time.Nanosecond
	deadline := monday.Add(week)

	before := enforcement.Session{AssuranceLevel: enforcement.AAL1, CreateTime: monday.Add(-instant)}
	at := enforcement.Session{AssuranceLevel: enforcement.AAL1, CreateTime: monday}
	second := enforcement.Session{AssuranceLevel: enforcement.AAL2, CreateTime: monday.Add(-instant)}
	viaSSO := enforcement.Session{Exempt: true, AssuranceLevel: enforcement.AAL1, CreateTime: monday.Add(-instant)}
	viaSSOSince := enforcement.Session{Exempt: true, AssuranceLevel: enforcement.AAL1, CreateTime: monday.Add(instant)}

	over := enforcement.Verdict{}
	untouched := enforcement.Verdict{Alive: true}
	untilDeadline := enforcement.Verdict{Alive: true, RevokeTime: deadline}

	for _, tc := range []struct {
		name    string
		policy  enforcement.Policy
		session enforcement.Session
		now     time.Time
		verdict enforcement.Verdict
	}{
		{"off: it lives", off, before, monday, untouched},
		{"switching on ends no current session", on, before, monday, untilDeadline},
		{"an instant before the deadline it lives", on, before, deadline.Add(-instant), untilDeadline},
		{"at the deadline it is over", on, before, deadline, over},
		{"after the deadline it stays over", on, before, deadline.Add(52 * week), over},
		{"created at the enforce time it is over at once", on, at, monday, over},
		{"over at once holds for a clock that lags", on, at, monday.Add(-time.Second), over},
		{"a second factor outlives the deadline", on, second, deadline, untouched},
		{"via SSO it is the identity provider's business", on, viaSSO, deadline, untouched},
		{"via SSO, signed in during the enforcement, too", on, viaSSOSince, deadline, untouched},
		{"where the policy applies to SSO it has the same deadline", onWithSSO, viaSSO, deadline.Add(-instant), untilDeadline},
		{"where the policy applies to SSO it is over at the deadline", onWithSSO, viaSSO, deadline, over},
		{"where the policy applies to SSO a later one is over at once", onWithSSO, viaSSOSince, monday.Add(instant), over},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.verdict, tc.policy.Judge(tc.session, tc.now))
		})
	}
}

// What this build has never heard of must not open a way around the rule.
func TestUnknownFacts_areReadStrictly(t *testing.T) {
	require.Equal(t, enforcement.StepEnroll, on.NextStep(ssoAgent, "CARRIER_PIGEON"), "an unknown first factor is not SSO")
	require.Equal(t, enforcement.StepEnroll, on.NextStep(ssoAgent, ""), "nor is a missing one")
	require.False(t, withRole("SUPERVISOR", bothAgent).ExemptVia(enforcement.SSO), "an unknown role may be an admin's")
	for _, level := range []enforcement.AssuranceLevel{"", "AAL3"} {
		verdict := on.Judge(enforcement.Session{AssuranceLevel: level, CreateTime: monday}, monday)
		require.False(t, verdict.Alive, "assurance level %q is not AAL2", level)
	}
}

func TestNotifies(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy enforcement.Policy
		agent  enforcement.Agent
		told   bool
	}{
		{"an agent without a second factor", on, agent, true},
		{"an invited agent, whose invitation said nothing of it", on, invited, true},
		{"not one who has set it up", on, withFactor(agent), false},
		{"not one who was deactivated", on, deactivated(agent), false},
		{"not one who joined with the enforcement", on, createdAt(monday, agent), false},
		{"one who joined an instant before it", on, createdAt(monday.Add(-time.Nanosecond), agent), true},
		{"not one whom SSO manages", on, ssoAgent, false},
		{"nobody while enforcement is off", off, agent, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.told, tc.policy.Notifies(tc.agent))
		})
	}
}
