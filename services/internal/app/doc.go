// Package app is what the mains of the suite have in common: configuration from
// the environment, logging, signals, running tasks together and stopping them in
// order, and the HTTP listener for metrics and health.
//
// It is the only package that reads the environment, the clock and signals, and
// the only one that ends the process. It does not know what a service is: a main
// builds its service from [Config] and hands its [Parts] to [Process.Run]; the
// all-in-one does the same with the parts it embeds. The kind of a part says when it
// stops.
package app
