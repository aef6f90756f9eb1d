// Package grpcx is how the suite serves gRPC and how it calls it.
//
// [NewServer] owns what is the same for every service: TLS, keepalive, message
// sizes, the health and reflection services, an orderly stop, and the chain that
// every call passes (chain.go): panics become errors; the call gets a request id
// and a trace, is measured and logged; its error is turned into a status in one place; the
// caller is identified and admitted; the request is validated. Only then the
// handler runs. Callers are admitted before their request is looked at, so that
// strangers learn nothing from validation messages.
//
// [Dial] owns the other end: the identity of the callee, load balancing,
// waiting for a callee that is still starting, and deadlines.
//
// Who may call is decided in package authz, what errors look like in package
// errs, certificates are package mtls's. Nothing here knows a service.
package grpcx
