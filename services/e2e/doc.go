// Package e2e holds the tests of the suite as a whole: what its customers see, over
// both doors, and what survives when its processes are killed.
//
// The tests know of the suite what a customer knows: the protos, the REST routes,
// the mails that arrive. The story they play is in package story, which the demo
// plays too. What a part does by itself is tested beside that part.
package e2e
