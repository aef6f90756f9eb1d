// Package client connects a program to a service of Twofold over gRPC: mutual TLS
// with the service's identity checked, calls spread over its replicas, deadlines,
// and retries where repeating a call changes nothing.
//
// It is written by hand, beside the generated packages, because everybody who
// imports those needs it and because checking an identity is not a thing to copy
// from a page. It depends on grpc alone. Whoever prefers a connection of their own
// can use its parts: [TLSConfig] and [ServiceConfig].
//
// What the calls mean is said in the protos; docs/grpc.md says how to use them.
package client
