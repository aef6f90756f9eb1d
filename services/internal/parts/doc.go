// Package parts opens what a process of the suite stands on, as its
// configuration names it: its database, the event bus, Redis, its keys, its
// certificate, connections to its neighbors and its own gRPC server.
//
// It is the glue between app.Config and the packages that do the work, so that
// the mains of the five services, which are alike, say only what differs. It
// owns no part: whoever opens one closes it. The all-in-one uses the same
// functions for the parts that are configured and brings its own for the rest.
package parts
