// Package tracing says which piece of work something belongs to: a call, or an
// event that a call caused, across all processes it passes.
//
// Every call and every event has a trace id, which stands in each log line
// (LogAttrs), whether or not anybody collects traces. It travels as W3C Trace
// Context: in gRPC metadata and HTTP headers as `traceparent` and `tracestate`,
// in events as the attributes of the same names (CloudEvents, Distributed Tracing
// extension). Baggage is not passed on: nobody knows what is in it.
//
// Spans are recorded only by a [Tracer] made by [New], which sends them to an
// OpenTelemetry collector. Without one, the nil Tracer is used; it costs the
// making of an id per call.
//
// What leaves the process in a span is an allow list of attributes, and no text
// that was written for somebody else: neither error messages nor addresses.
//
// A trace that begins outside of the suite is continued only for callers who are
// trusted with it (see Continue). Other callers could otherwise have all their
// calls recorded, mix their calls into traces of others, or say who they are to
// third parties; their trace is linked to instead (W3C Trace Context, sections
// 7 and 8).
//
// There is no global state: whoever makes spans is handed the Tracer.
package tracing
