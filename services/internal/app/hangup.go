package app

import (
	"os"
	"os/signal"
	"syscall"
)

// Hangups returns a channel of the SIGHUPs that the process gets, by which
// operators ask it to read its files again; without it such a signal ends the
// process. stop ends that.
func Hangups() (signals <-chan os.Signal, stop func()) {
	// One is enough: a second that comes before the first was seen asks for nothing
	// more.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
