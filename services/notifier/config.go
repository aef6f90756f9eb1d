package notifier

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/twofold-auth/twofold/services/internal/events"
)

// Config is what an installation may choose. Zero values mean the defaults, but
// PublicURL and MailFrom must be set.
type Config struct {
	// PublicURL is where people reach the suite; links in mails begin with it.
	PublicURL string
	// MailFrom is the sender, "no-reply@example.com" or "Acme <no-reply@example.com>".
	MailFrom string
	// Location is the time zone of the times in mails; nil means UTC.
	Location *time.Location
	// Workers is how many mails are handed over at the same time (8).
	Workers int
	// Lease is how long a claimed notice is left to its worker (15s, which is also
	// the longest).
	Lease time.Duration
	// PollEvery is how often work is looked for that nobody announced (1s).
	PollEvery time.Duration
	// MinRetry and MaxRetry bound the growing pause between attempts at a notice
	// (10s and 30m).
	MinRetry, MaxRetry time.Duration
	// MinReconnect and MaxReconnect bound the growing pause between attempts to reach
	// a mail server that does not work (500ms and 30s).
	MinReconnect, MaxReconnect time.Duration
	// GiveUpAfter is how long after its first failed attempt a notice fails (72h).
	GiveUpAfter time.Duration
	// Retention is how long notices are kept after they ended (2160h, 90 days).
	Retention time.Duration
}

// DefaultWorkers is also how many connections to the mail server they need.
const DefaultWorkers = 8

// maxLease is how late a notice can be whose worker was killed.
const maxLease = 15 * time.Second

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = DefaultWorkers
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&c.Lease: maxLease, &c.PollEvery: time.Second,
		&c.MinRetry: 10 * time.Second, &c.MaxRetry: 30 * time.Minute,
		&c.MinReconnect: 500 * time.Millisecond, &c.MaxReconnect: 30 * time.Second,
		&c.GiveUpAfter: 72 * time.Hour, &c.Retention: 90 * 24 * time.Hour,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	return c
}

// check says everything that is wrong with the configuration. The sender is checked
// by package mail.
func (c Config) check() error {
	var problems []error
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("notifier: "+format, args...))
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		problems = append(problems, errors.New("notifier: the public URL is not a web address"))
	}
	if c.Workers < 1 {
		wrong("%d workers cannot deliver", c.Workers)
	}
	if c.Lease <= 0 || c.Lease > maxLease {
		wrong("the lease %s is not within 0 and %s", c.Lease, maxLease)
	}
	if c.PollEvery <= 0 || c.GiveUpAfter <= 0 {
		wrong("times to poll and to give up must be positive")
	}
	if c.MinRetry <= 0 || c.MaxRetry < c.MinRetry || c.MinReconnect <= 0 || c.MaxReconnect < c.MinReconnect {
		wrong("the shortest pause must be positive and not above the longest")
	}
	// An event that the stream brings again must find the notice it made.
	if c.Retention < events.MaxAge {
		wrong("the retention %s is shorter than the %s that events are kept", c.Retention, events.MaxAge)
	}
	return errors.Join(problems...)
}
