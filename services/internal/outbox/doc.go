// Package outbox gets events from a database transaction into the stream: Append
// writes an event in the transaction of the change it tells of, and a Relay
// publishes what was committed, over and over until the stream has it.
//
// It owns the table `outbox`, whose statement (Schema) each service copies into
// its first migration, and the relay. The stream, the shape of a message and the
// consumers belong to package events; the transaction belongs to the store that
// calls Append.
//
// With the event the row keeps the trace of the call that Append was part of, in
// the column of the headers, so that the consumer's work belongs to that call
// though another goroutine, or process, publishes later.
//
// # Why events are not lost
//
// A row is claimed by its state (not published yet) and never by "greater than
// the last id": ids and sequences become visible in another order than they were
// drawn. A published row stays for as long as the stream keeps the event, with
// the sequence it got and the creation time of the stream. When the stream turns
// out to be a new one, or its newest events are no longer where they were (a
// server that lost power, a restored copy, an emptied disk), the relay publishes
// again what is missing. So a stream can be lost whole, and nobody has to do
// anything about it.
//
// # Order, copies and duplicates
//
// A relay publishes in the order of the SQL clock at Append, then of the
// aggregate's version. Changes of one aggregate are serialized by the row lock
// that Append's transaction holds, so their events go out in order. Copies of a
// service each run a relay on the same table without locks or leases between
// them: whichever publishes an event has published, or seen published, what
// precedes it, so the order holds for the first appearance of each event; a
// second appearance is dropped by the stream within its duplicate window, and by
// the consumers, which are idempotent, ever after. A lease would save some
// publishing during a backlog, and would make a crashed copy hold up the rest.
package outbox
