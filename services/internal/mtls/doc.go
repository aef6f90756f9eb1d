// Package mtls gives every process of the suite an identity, and proves it on
// each connection.
//
// An identity is the URI `spiffe://twofold/<name>` in a certificate, in the form
// SPIFFE uses (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md),
// so that a mesh or SPIRE can issue it later. Both ends present one and both
// ends check the other's: a client asks "is this the session service", not "is
// this host called session". Host names are not looked at, so the same
// certificates work in one process, in compose and in a cluster, and whoever
// gains the name of a host gains nothing.
//
// Certificates are read at each handshake, so that replacing the files is all a
// rotation takes.
//
// What an identity may do is not decided here: package authz reads the name,
// and the protos say which method admits it. The [Authority] is a throwaway for
// development and tests; production brings certificates of its own.
package mtls
