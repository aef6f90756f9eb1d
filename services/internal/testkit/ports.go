package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	// Ports come from below the range that systems hand out to outgoing
	// connections (Linux: from 32768), so that none of those can take a
	// server's port while the server is being restarted. The upper end leaves
	// room for the Redis Cluster bus, which listens 10,000 higher.
	firstPort = 10_000
	lastPort  = 22_000
	busOffset = 10_000
)

// startAttempts is how often a server is started on a new port when another
// process was quicker to take the one that had been found free.
const startAttempts = 5

// freePort finds a port on loopback that nobody listens on, nor on the one
// busOffset higher.
func freePort() (int, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if portFree(port) && portFree(port+busOffset) {
			return port, nil
		}
	}
	return 0, errors.New("no free port on loopback")
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// onFreePort calls start with fresh ports until it succeeds.
func onFreePort(start func(port int) error) error {
	var errs []error
	for range startAttempts {
		port, err := freePort()
		if err != nil {
			return err
		}
		err = start(port)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("port %d: %w", port, err))
	}
	return errors.Join(errs...)
}
