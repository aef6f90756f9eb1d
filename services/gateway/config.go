package gateway

import (
	"errors"
	"net/netip"
	"time"
)

// Config is what an operator may set.
type Config struct {
	// TrustedProxies are the hops in front of the gateway whose X-Forwarded-For
	// is believed.
	TrustedProxies []netip.Prefix
	// CallTimeout bounds a call that is neither a stream nor an import.
	CallTimeout time.Duration
	// WatchInterval is how often a rollout that is watched is read again.
	WatchInterval time.Duration
	// WatchLimit is how long one watching call lasts; then its caller calls again.
	WatchLimit time.Duration
	// StopTimeout is how long calls may take to finish when the gateway stops.
	StopTimeout time.Duration
}

// DefaultConfig trusts no proxy.
func DefaultConfig() Config {
	return Config{CallTimeout: 10 * time.Second, WatchInterval: time.Second, WatchLimit: 15 * time.Minute, StopTimeout: 10 * time.Second}
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	var problems []error
	if c.CallTimeout <= 0 {
		problems = append(problems, errors.New("gateway: CallTimeout must be positive"))
	}
	if c.WatchInterval <= 0 {
		problems = append(problems, errors.New("gateway: WatchInterval must be positive"))
	}
	if c.WatchLimit <= 0 {
		problems = append(problems, errors.New("gateway: WatchLimit must be positive"))
	}
	if c.StopTimeout <= 0 {
		problems = append(problems, errors.New("gateway: StopTimeout must be positive"))
	}
	return errors.Join(problems...)
}
