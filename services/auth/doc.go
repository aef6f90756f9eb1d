// Package auth is the auth service: the accounts, the agents in them, and how
// they prove who they are.
//
// It owns accounts and agents, passwords, second factors and recovery codes,
// sign-ins on their way to a session, and the counters that stop guessing, all
// in SQL. Sessions themselves belong to the session service and the policy to
// the policy service; auth asks both over gRPC and decides nothing they own. The
// rule that says what follows a first factor is package enforcement's.
//
// # A sign-in
//
//	          right password                  right code
//	(SignIn) ────────────────► CHALLENGE ─────────────────► session (AAL2)
//	    │                       a factor is set up
//	    │                                  begin, right code
//	    ├────────────────────► ENROLLMENT ────────────────► session (AAL2)
//	    │                       enforced, no factor
//	    └─────────────────────────────────────────────────► session (AAL1)
//	                            not enforced, no factor
//
// The state is a row, named by the SHA-256 of the sign-in token. A sign-in that
// was finished, that expired, or whose agent was reset or changed meanwhile is
// gone, and every use of its token is refused alike.
//
// # Links in mails
//
// Invitations and forgotten passwords go by a mail with a one-time link. The event
// promises the mail; the notifier asks for the link's token when it writes it, and
// only then is there one. A row of links is the promise: whoever takes its place,
// deletes it or uses it voids the link, with the agent locked. Whether anybody has
// an address is looked up by other work than the call that asks.
//
// # What is decided where
//
// A guess at a second factor is decided under the lock of its agent, in one
// transaction that commits whether the guess was right or wrong. A right code is
// used up there and its sign-in finished, so that of many parallel answers one
// succeeds. A wrong one is counted there, so that parallel guesses get no more
// looks than the counters leave, no refusal takes a count back, and an outage
// counts nothing. The policy is read before, and the session is made after it,
// with the policy revision and the agent version of the decision: when the session
// service knows newer ones it aborts, and auth decides again. When it does not
// answer at all, the code is used up, the answer is UNAVAILABLE, and the person
// begins again with the password.
//
// Wrong passwords are counted for whoever is typed in, known or not, and for each
// network address by itself: guessing elsewhere keeps nobody out.
//
// Reset, enrollment and removal of a factor, a new password, a change of role and
// deactivation raise the agent's version, write their event and end sessions below
// the version before they answer. The event is the guarantee should that last call
// fail. Where an OK promises that no session is left, the answer is then
// UNAVAILABLE although the change is stored; repeating it does no harm.
//
// Lists, counts and the choice of whom to mail are made by the database with the
// conditions of rule_sql.go, which repeat what package enforcement says of one
// agent and are tested against it over all combinations of facts.
//
// What admins do to sessions is in auth's part of the audit log: the session service
// keeps none and tells by event, which is recorded once however often it comes.
//
// Whatever changes an agent locks its row before any row that belongs to it; what
// could take the last owner away locks the account before that.
package auth
