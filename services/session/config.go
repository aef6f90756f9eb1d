package session

import "time"

// buckets is how many parts the store is cut into. It is part of every token, so
// changing it ends all sessions.
const buckets = 64

// Config is what an installation may choose. The zero value of a field stands
// for its default.
type Config struct {
	// IdleLimit ends a session that was not used for so long, unless the person
	// chose to stay logged in; 12 hours.
	IdleLimit time.Duration
	// MaxAge ends every session; 30 days.
	MaxAge time.Duration
	// KeepMaxAge ends sessions of people who chose to stay logged in; 30 days.
	KeepMaxAge time.Duration
	// LastSeenEvery is how often the last use is written at most; a minute.
	LastSeenEvery time.Duration
	// LastSeenQueue bounds the writes of last use that wait; 4,096. What does not
	// fit is dropped: the next use of the session writes it.
	LastSeenQueue int
	// Retention is how long the store can say why a session is over; 24 hours.
	Retention time.Duration
	// SweepDelay is how long after a deadline the sessions are swept. Switching
	// enforcement off a moment before the deadline must have arrived by then; 5 s.
	SweepDelay time.Duration
	// SweepEvery is how often due revocations are looked for; a second.
	SweepEvery time.Duration
	// SweepLease is how long a copy that claimed a revocation may be silent before
	// another takes over; 15 s.
	SweepLease time.Duration
	// SweepBatch is how many sessions one script ends, at most 500; 500.
	SweepBatch int
	// KeepEvery is how often the store is compared with the events; a second.
	KeepEvery time.Duration
	// PublishWait is how long a revocation waits for its event to be in the stream
	// before it is answered; 2 s. Until it is there, only the store knows of it.
	PublishWait time.Duration
	// SettleWait is how long it then waits for the consumer to have taken the event;
	// 500 ms. From there on a store that comes back older is recognized by it.
	SettleWait time.Duration
}

// batchLimit is the most sessions one SessionsRevoked event names.
const batchLimit = 500

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.IdleLimit, 12 * time.Hour},
		{&c.MaxAge, 30 * 24 * time.Hour},
		{&c.KeepMaxAge, 30 * 24 * time.Hour},
		{&c.LastSeenEvery, time.Minute},
		{&c.Retention, 24 * time.Hour},
		{&c.SweepDelay, 5 * time.Second},
		{&c.SweepEvery, time.Second},
		{&c.SweepLease, 15 * time.Second},
		{&c.KeepEvery, time.Second},
		{&c.PublishWait, 2 * time.Second},
		{&c.SettleWait, 500 * time.Millisecond},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if c.LastSeenQueue <= 0 {
		c.LastSeenQueue = 4096
	}
	if c.SweepBatch <= 0 || c.SweepBatch > batchLimit {
		c.SweepBatch = batchLimit
	}
	return c
}

// fenceAge is how long what refuses old sessions is remembered: longer than any
// session, and than a sign-in that is still on its way to one.
func (c Config) fenceAge() time.Duration {
	return max(c.MaxAge, c.KeepMaxAge) + 5*24*time.Hour
}

// age is how long a session may live at most.
func (c Config) age(keep bool) time.Duration {
	if keep {
		return c.KeepMaxAge
	}
	return c.MaxAge
}
