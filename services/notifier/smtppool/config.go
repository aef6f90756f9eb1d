package smtppool

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"
)

// ErrConfig says that the mail server's address or another setting is wrong.
var ErrConfig = errors.New("bad mail server setting")

// Config says where mails go and how patient the pool is. Zero values mean the
// defaults.
type Config struct {
	// URL is the mail server: "smtps://user:password@host:465" for TLS from the
	// first byte (RFC 8314), or "smtp://host:587" for STARTTLS. Without TLS,
	// mails go to a loopback address only, unless the URL says "?tls=none".
	URL string
	// Size is the most connections at a time (8).
	Size int
	// ConnectTimeout ends connecting, up to being signed in (30s).
	ConnectTimeout time.Duration
	// MessageTimeout ends one mail, up to its final dot (60s).
	MessageTimeout time.Duration
	// AnswerTimeout ends the wait for the answer to the final dot (2m). Giving up
	// here makes the outcome ambiguous; RFC 5321, section 4.5.3.2.6 would have
	// us wait ten minutes, while all that time the connection serves nobody.
	AnswerTimeout time.Duration
	// CheckAfter is the idle time after which a connection is asked whether it
	// still works before it is handed out (1s).
	CheckAfter time.Duration
	// IdleTimeout closes a connection nobody used for so long (1m).
	IdleTimeout time.Duration
	// MailsPerConnection closes a connection after so many mails (100, a usual
	// limit of mail servers).
	MailsPerConnection int
	// CautionTime is how long SendAgain holds back the final dot (250ms).
	CautionTime time.Duration
	// Hello is our name in EHLO; the host's name if empty.
	Hello string
	// RootCAs replaces the system's certificate authorities.
	RootCAs *x509.CertPool
	// Now is the wall clock.
	Now func() time.Time
}

// LogValue keeps the password out of logs.
func (c Config) LogValue() slog.Value {
	t, err := parseTarget(c.URL)
	if err != nil {
		return slog.StringValue("invalid mail server address")
	}
	return slog.StringValue(t.String())
}

// String keeps the password out of formatted output.
func (c Config) String() string { return c.LogValue().String() }

// GoString keeps the password out of %#v.
func (c Config) GoString() string { return c.String() }

func (c Config) withDefaults() (Config, error) {
	if c.Now == nil {
		return c, fmt.Errorf("%w: no clock", ErrConfig)
	}
	if c.Hello == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("host name for EHLO: %w", err)
		}
		c.Hello = name
	}
	for value, fallback := range map[*int]int{&c.Size: 8, &c.MailsPerConnection: 100} {
		if *value < 0 {
			return c, fmt.Errorf("%w: negative number", ErrConfig)
		}
		if *value == 0 {
			*value = fallback
		}
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&c.ConnectTimeout: 30 * time.Second, &c.MessageTimeout: time.Minute, &c.AnswerTimeout: 2 * time.Minute,
		&c.CheckAfter: time.Second, &c.IdleTimeout: time.Minute, &c.CautionTime: 250 * time.Millisecond,
	} {
		if *value < 0 {
			return c, fmt.Errorf("%w: negative time", ErrConfig)
		}
		if *value == 0 {
			*value = fallback
		}
	}
	return c, nil
}

// target is the parsed URL.
type target struct {
	scheme         string
	host, port     string
	user, password string
	implicitTLS    bool // TLS from the first byte
	noTLS          bool // the URL says tls=none
	plainAllowed   bool // going on without TLS is allowed
}

// parseTarget reads the URL. Its errors never repeat it: it may hold a password.
func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, fmt.Errorf("%w: address cannot be parsed", ErrConfig)
	}
	t := target{scheme: u.Scheme, host: u.Hostname(), port: u.Port(), user: u.User.Username()}
	t.password, _ = u.User.Password()
	// The ports are those for submission (RFC 6409, RFC 8314).
	fallback := "587"
	switch u.Scheme {
	case "smtp":
	case "smtps":
		t.implicitTLS, fallback = true, "465"
	default:
		return target{}, fmt.Errorf("%w: address must begin with smtp:// or smtps://", ErrConfig)
	}
	if t.port == "" {
		t.port = fallback
	}
	switch {
	case t.host == "":
		return target{}, fmt.Errorf("%w: address names no host", ErrConfig)
	case u.Path != "" && u.Path != "/" || u.Fragment != "":
		return target{}, fmt.Errorf("%w: address has something after the port", ErrConfig)
	case t.user == "" && t.password != "":
		return target{}, fmt.Errorf("%w: address has a password and no user", ErrConfig)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return target{}, fmt.Errorf("%w: options cannot be parsed", ErrConfig)
	}
	for key, values := range query {
		if key != "tls" || len(values) != 1 || values[0] != "none" || t.implicitTLS {
			return target{}, fmt.Errorf("%w: the only option is tls=none, for smtp://", ErrConfig)
		}
		t.noTLS = true
	}
	t.plainAllowed = t.noTLS || isLoopback(t.host)
	return t, nil
}

// isLoopback tells whether mails to the host stay on this machine. Names other
// than localhost are not looked up: a resolver's answer is no proof.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (t target) addr() string { return net.JoinHostPort(t.host, t.port) }

// String names the server without credentials.
func (t target) String() string { return t.scheme + "://" + t.addr() }
