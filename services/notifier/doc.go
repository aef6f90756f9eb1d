// Package notifier is the notifier service: it tells people by mail what happened
// to their account and their second factors, and shows admins what was told to
// whom.
//
// It owns the tables of its schema: what it knows of each account's enforcement,
// the fan-outs, the notices with the state of their delivery, and its part of the
// audit log: who had a notice sent again. Package mail puts a notice into words,
// package smtppool hands it to the mail server and says what became of it. The auth
// service owns who the agents are, where they are written to and who of them has a
// second factor; the policy service owns the policy. This service learns of both by
// events and asks auth. Session is asked only who calls, as by every server.
//
// # From an event to a mail
//
// Consuming an event never waits for a mail. An event about one agent becomes one
// notice. An event about an account becomes one row in fan_outs, however many
// agents there are; a worker then walks the agents in pages, and each page's
// notices and the row's new place are one transaction, so a fan-out goes on where
// a killed process left it. Delivery workers claim notices in small batches.
// Claims are leases in the rows themselves: due_time is when a row may be claimed,
// and a claim moves it a little into the future.
//
// # What holds whatever is killed
//
//   - One notice for each event and agent: the database says so (UNIQUE).
//   - At least one mail: only an answer of the mail server, or a reason to tell the
//     agent nothing, ends a notice.
//   - At most two mails, and one unless a connection or a process was lost at the
//     one moment nobody can see through, after a mail's final dot. SENDING is
//     stored before the first word about a mail is said; whoever finds it with its
//     lease run out counts that attempt as ambiguous. One ambiguous attempt is
//     repeated under the same Message-ID, a second ends as UNKNOWN.
//   - One link: the token of a one-time link is asked for when a mail is written, is
//     in the mail alone, and is the same when that mail is sent again.
//   - Nothing late: a notice names the policy revision it speaks of. The statement
//     that stores SENDING compares it with the newest one known.
//
// # Layers
//
// server.go speaks proto; consumer.go, fanout.go and delivery.go do the work;
// enforcement.go, decide.go and outcome.go hold the rules, pure; store*.go write
// SQL.
package notifier
