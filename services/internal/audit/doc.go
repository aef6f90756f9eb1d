// Package audit is the log of who changed what, and of what was refused.
//
// It owns two tables in the schema of each service that keeps a log: the events,
// and for each account the head of the chain they form. It owns how an event is
// hashed, listed and verified, the rule which refused calls are recorded, and
// AuditTrailService, by which the gateway reads what a service has. The services
// own what is worth an event and what its details are; the gateway merges the
// logs of all services and knows pages, filters as people write them, and files.
//
// # A change
//
// [Append] belongs to the transaction of the change, after every other lock: it
// locks the head of the account's chain, so events of one account are committed
// one after the other, and nobody waits there for somebody who waits for them. There is no event without its change and no change without
// its event.
//
// # A refusal
//
// A refused call has rolled back whatever it did, so its event is a transaction
// of its own, made by [Refusals] once the answer is known: for every method that
// changes something and that admins or the operator may call, whoever called it.
// Neither a handler nor a process has to remember it. A service without a database
// has [Refusals] hand them to another, by an event.
//
// # The chain
//
// The hash of an event covers everything in it and the hash of the one before,
// so nothing can be changed, left out or put in between without every later hash
// being another. Triggers refuse changes to whoever has no right to drop them;
// [Verify] finds the changes of those who have. docs/audit.md tells others how to
// do the same without this code.
package audit
