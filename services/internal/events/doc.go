// Package events carries events between the services over NATS JetStream: at
// least once, in file storage, for 35 days.
//
// It owns the two streams, the shape of a message (a protobuf payload with
// CloudEvents 1.0 attributes in the headers, binary mode of the NATS protocol
// binding), and how a durable consumer behaves when handlers fail, messages are
// broken or the server goes away. Package outbox owns getting an event from a
// database transaction to Bus.Publish. The services own the event messages and
// what they do about them. The connection, with its reconnect settings, and the
// server, which must run with `sync_interval: always`, belong to whoever starts
// the process.
//
// An event names the trace in which it came to be, as CloudEvents' Distributed
// Tracing extension has it; the context of a handler is in that trace.
//
// # Streams and subjects
//
// TWOFOLD keeps `twofold.<service>.<Event>.<account>`. TWOFOLD_DLQ keeps
// `twofold-dlq.<consumer>.<Event>.<account>`: what a consumer could not process
// and never will, with the reason in the headers.
//
// # What a handler may rely on
//
// It sees every event of the wanted types at least once: after a crash, a lost
// acknowledgment or a rebuilt stream it sees events again, even old ones. So it
// must be idempotent and must fence with Event.Version, the version of the
// aggregate. An error makes the message come back after a growing pause, for
// ever; an error marked with Permanent, and a message that cannot be decoded, go
// to the dead-letter stream. Neither holds up the messages behind.
package events
