// Package rollout puts together how far an account's enforcement has come: its
// policy, who has a second factor, which mails went out and which sessions will
// end. Each of these belongs to another service; only the edge sees them all.
//
// It stores nothing and decides nothing. What a change of the policy would do is
// asked of the policy service, which decides by the same rule as for a save.
//
// While an account's rollout is watched it is read once at each interval, and all
// who watch it here share that reading. Each of them is admitted, and verified
// again, on their own.
package rollout
