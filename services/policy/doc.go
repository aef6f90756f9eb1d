// Package policy is the policy service: each account's policy on second factors,
// who changed it when, and telling the suite about every change.
//
// It owns the tables of its schema: the policies, their revisions, the request
// ids that make an update safe to repeat, the outbox its events leave by, and its
// part of the audit log. What a change does to a policy is package enforcement's
// to say; who may call is written in the proto and decided by package authz
// before a handler runs.
// The session service owns what follows for sessions, the notifier the mails,
// auth who the agents are. This service knows how many of them there are no more
// than it needs to: a change takes the same time for ten agents and a million.
//
// # A change
//
// One transaction locks the policy's row, reads the SQL clock, asks the rule,
// and writes the policy, its revision, its event and its place in the audit log;
// its commit is the line from which sign-ins see the new policy. After it, and
// before the answer, the session service is told directly, so that whoever saw
// the answer meets the change everywhere. Should that call fail, the event does
// it a moment later; should the session store begin anew, the reconciler tells it
// everything again.
//
// Three layers: server.go speaks proto, decide.go asks the rule, store.go writes
// SQL.
package policy
