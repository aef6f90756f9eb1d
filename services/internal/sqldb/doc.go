// Package sqldb is the suite's door to SQL: it opens PostgreSQL or SQLite from
// one URL, runs one portable set of statements on either, and retries the
// transactions that a database may ask to have repeated.
//
// It owns connection settings, the translation of placeholders, migrations and
// the classification of driver errors. It does not own a single table: each
// service keeps its own statements and migrations, in its own schema
// (PostgreSQL) or its own file (SQLite), and the outbox table belongs to
// package outbox.
//
// # Portable statements
//
// Statements use `?` placeholders. Times are BIGINT microseconds since the Unix
// epoch (Micros, FromMicros), ids are TEXT, bytes are BYTEA, truth values are
// BOOLEAN. UPSERT is `ON CONFLICT`, and `RETURNING` works on both. A statement
// that must lock what it reads appends DB.ForUpdate or DB.SkipLocked, which are
// empty on SQLite, where a transaction is alone from its first statement on.
//
// # Transactions
//
// DB.InTx may run its callback more than once, so the callback must not have
// effects outside its transaction; above all it must not call another service.
// On PostgreSQL a transaction is READ COMMITTED with explicit row locks; on
// SQLite it is BEGIN IMMEDIATE on the one writing connection.
//
// A COMMIT whose answer was lost may or may not have taken effect. InTx then
// returns ErrCommitUnknown and does not repeat the callback: only the caller
// knows how to tell (a request id, a unique key) or whether it matters.
//
// # Errors
//
// What comes back wraps the driver's error for the log. It must never reach a
// client as text: callers ask IsUniqueViolation, IsUnavailable and ErrNoRows, and
// answer with an error of their own.
package sqldb
