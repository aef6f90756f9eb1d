// Package errs is how the suite says no.
//
// An [Error] carries one of the standard gRPC codes, one reason from the list
// in reasons.go and a sentence for people. It becomes a gRPC status with
// exactly one google.rpc.ErrorInfo (domain "twofold"), and, where it helps, the
// fields at fault (google.rpc.BadRequest) and when to try again
// (google.rpc.RetryInfo), as https://google.aip.dev/193 describes. Codes tell a
// client what to do, reasons tell it why; no code is ever invented.
//
// The cause of an error stays in the process: it is for the log, and
// [Error.GRPCStatus] never looks at it. Text of drivers and libraries therefore
// reaches no caller.
//
// Rules and stores return an *Error, or wrap one; anything else is a fault of
// ours. [From] turns whatever a handler returned into an *Error, in one place,
// which package grpcx calls from its interceptor. Nobody else builds statuses.
package errs
