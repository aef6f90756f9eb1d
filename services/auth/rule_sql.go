package auth

import "github.com/twofold-auth/twofold/services/internal/enforcement"

// What package enforcement says about one agent, said about rows, so that lists
// and counts are made by the database. A test compares every one of these with
// the rule over all combinations of facts.

// sqlExempt: every way in which the agent signs in is left to the identity
// provider.
const sqlExempt = `(has_sso = TRUE AND has_password = FALSE)`

// sqlCovered is Policy.Covers while enforcement is on.
func sqlCovered(applyToSSO bool) string {
	if applyToSSO {
		return `TRUE`
	}
	return `NOT ` + sqlExempt
}

// sqlMFAState is the agents whom Policy.MFAState shows in a state.
func sqlMFAState(applyToSSO bool, state enforcement.MFAState) string {
	switch {
	case state == enforcement.SetUp:
		return `has_factor = TRUE`
	case state == enforcement.NotSetUp:
		return `has_factor = FALSE AND ` + sqlCovered(applyToSSO)
	case state == enforcement.ManagedBySSO && !applyToSSO:
		return `has_factor = FALSE AND ` + sqlExempt
	default:
		return `FALSE`
	}
}

// sqlActive is enforcement.Agent.Active.
const sqlActive = `state <> '` + string(stateDeactivated) + `'`

// sqlNotified is Policy.Notifies while enforcement is on; its one argument is the
// time at which that began.
func sqlNotified(applyToSSO bool) string {
	return sqlActive + ` AND has_factor = FALSE AND ` + sqlCovered(applyToSSO) + ` AND create_time < ?`
}
