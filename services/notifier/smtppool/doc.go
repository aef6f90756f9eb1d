// Package smtppool hands mails to the mail server over a bounded set of
// connections that stay open between mails.
//
// It owns the connections and the answer to one question: what became of this
// mail? It decides nothing else. Package mail makes the mails; the notifier
// decides who gets one, keeps its state in SQL, and decides when to try again.
//
// # Ready first
//
// A caller acquires a connection, and only then stores that it is sending:
//
//	conn, err := pool.Acquire(ctx) // connected, encrypted, signed in
//	if err != nil { ... }          // nothing was sent; the server is the reason
//	defer conn.Release()
//	// store SENDING
//	outcome := conn.Send(ctx, message)
//	// store the outcome
//
// So a process that dies while SENDING is stored was really talking to the
// server about that mail, and at most one such mail per connection exists.
//
// # The final dot
//
// SMTP has one moment nobody can see through. When the connection is lost after
// the final dot of a mail was sent and before the answer came, the server may
// have taken the mail or not (RFC 1047). Everything else is certain: before the
// final dot the server must not deliver (RFC 5321, section 4.2.5), and an answer
// is an answer. Therefore a Result is Ambiguous only in that moment, and
// Retryable always means: not delivered.
//
// To know on which side of the dot a loss fell, this package drives go-mail's
// protocol client one command at a time instead of its sending client. That one
// ends a failed mail without telling whether the dot had left, counts an
// input/output time-out as permanent, and reports an error for a delivered mail
// whose later RSET failed.
//
// # One error, one connection
//
// After any error a connection is closed and never used again: what the server
// would make of the next command is not known.
package smtppool
