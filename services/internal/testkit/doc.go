// Package testkit gives tests the real things the services run on: PostgreSQL,
// SQLite, Redis, a Redis Cluster and NATS JetStream, each a private copy on
// loopback with a free port, never a server that was already there.
//
// # What it promises
//
// A server belongs to the test that asked for it and ends, with its files, in
// that test's cleanup. The one exception is the PostgreSQL behind [Postgres]:
// starting it takes about a second, so the tests of one process share it and
// each gets a database of its own.
//
// No server outlives the test process, whether that ends in order, by a panic,
// by go test's timeout or by SIGKILL; see child.go for how.
//
// A program that is not installed skips the test with a message that names
// `make test`, which installs it. Where CI or TWOFOLD_TEST_STRICT is set the
// test fails instead, so that a suite can not turn green by skipping.
//
// # What it is not for
//
// It knows nothing of the services and imports none of them; a harness that
// wires one up belongs to that service. A mail server that records is the
// neighboring package mailsink, servers to put services behind are in grpctest. Only tests import testkit, so no service binary
// carries it or the embedded servers behind it.
package testkit
