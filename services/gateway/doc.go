// Package gateway is the edge: REST for frontends (grpc-gateway), and what only
// the edge can see whole, the rollout of an enforcement (package rollout) and the
// audit log (package audit).
//
// It owns nothing durable. Each REST route is a gRPC call over a connection to
// the service that owns it, so the same interceptors admit and refuse whichever
// door a call comes by; the gateway itself decides nothing about people.
//
// What it does own is the form of REST: strict JSON and query parameters, one
// error shape, limits of size and time, and everything about browsers. A browser
// that sends `Twofold-Session: cookie` gets its tokens in cookies instead of
// bodies and must send that header with every call, which no other site can make
// it do. The address of the caller is read here, once, from the proxies the
// operator named, and handed on; so is what the client calls itself.
package gateway
