// Package audit shows an account's audit log. Policy, auth and notifier each keep
// a part of it, and only the edge sees them all: this package merges them, reads
// filters as people write them, and makes pages and files.
//
// It keeps nothing, so a page token says all there is to know: the place of the
// last event that was shown. What an event is, and the chains that keep it as it
// was written, belong to the package of the same name in services/internal.
package audit
