// Package allinone runs the whole suite in one process: for newcomers, for
// development, and for the tests that play the product's story.
//
// It is wiring and nothing else. The five services come from the same
// constructors as in their own processes, each behind a gRPC server of its own
// with the same interceptor chain, and call each other over mutual TLS with
// certificates of a throwaway authority; only the listeners are in memory. A part
// that is configured is used (PostgreSQL, Redis, NATS, a mail server); for each
// that is not, one is embedded: SQLite and JetStream in the data directory, a
// Redis-compatible store in memory, and an inbox that keeps the mails.
//
// The embedded session store forgets everything at a restart. Sessions then end,
// which their owners are told as SESSION_STORE_LOST; nothing that was revoked
// comes back.
//
// Services do not import this package or one another, and their binaries carry
// none of the embedded servers.
package allinone
