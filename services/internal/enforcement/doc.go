// Package enforcement is the rule: what "Enforce Two-Factor Authentication"
// means for a sign-in, for a session and for an agent at a given moment. It is
// pure: every fact and the time are handed in, nothing is read or kept.
//
// A policy is off, or on since its enforce time:
//
//	    Enabled: enforce time = now
//	  ┌─────────────────────────────►┐
//	(off)                           (on) ◄─┐ Updated: the enforce time stays,
//	  └◄─────────────────────────────┘ └───┘ a new grace period moves the edge
//	    Disabled
//
// While it is on, a session of somebody it covers that saw no second factor
// (AAL1) meets one of two edges:
//
//   - created before the enforce time, it lives until the session revoke time
//     (enforce time + grace period) and is over from that very instant;
//   - created at the enforce time or later, it is over at once. Sign-in gives
//     out no such session; this edge ends one that slipped through a race.
//
// Covered is whoever signs in by password, admins alike. SSO is the identity
// provider's business unless the policy applies to SSO; but an admin or owner
// who has a password is covered whichever way they come.
//
// The policy service changes policies here, auth decides sign-ins, factor
// removal, the agents page and who is mailed, session gives its verdicts and
// sweeps, the gateway previews. SQL that counts by the rule is tested against
// it. Session owns what else ends a session (lifetimes, agent versions) and
// makes an end final: the rule itself has no memory, and would let a session
// live again once enforcement is off.
package enforcement
