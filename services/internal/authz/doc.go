// Package authz decides who is calling and whether the method admits them.
//
// Who may call a method is stated beside the method, in the proto option
// twofold.authz.v1.access, and nowhere else. [NewTable] reads the options of
// everything a server registered and fails when one is missing, so a method
// that nobody thought about never runs. [Authorizer.Authorize] is called once
// per call by package grpcx and puts a [Caller] into the context.
//
// There are two kinds of credentials. A bearer token (`authorization: Bearer …`)
// speaks for a person or for the operator; the client certificate speaks for the
// process at the other end. A method for services alone looks at the certificate
// and ignores bearers; a method for anyone, or for holders of a sign-in token,
// looks at neither; for all others a bearer decides, and the certificate only
// when there is no bearer.
//
// What a person may do inside a method (this account, this agent, an owner) is
// the handler's first statement, see [Caller.InAccount]. Whether a token is a
// live session is the session service's verdict, handed in as a
// [SessionVerifier]; package mtls says whose certificate it is.
package authz
