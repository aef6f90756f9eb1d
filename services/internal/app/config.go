package app

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// maxShutdown keeps a slip, such as 25m for 25s, from making a process that never
// goes away.
const maxShutdown = 10 * time.Minute

const (
	prefix = "TWOFOLD_"
	// testPrefix is left to the tests, which start processes with their own
	// environment.
	testPrefix = "TWOFOLD_TEST_"
)

// Config is the configuration of every process of the suite; each uses the part
// it needs. All of it comes from environment variables.
type Config struct {
	// HTTPAddr is where the gateway and the all-in-one serve REST and the console.
	HTTPAddr string `env:"TWOFOLD_HTTP_ADDR" envDefault:"127.0.0.1:8080"`
	// GRPCAddr is where a process serves gRPC.
	GRPCAddr string `env:"TWOFOLD_GRPC_ADDR" envDefault:"127.0.0.1:9090"`
	// MetricsAddr is where a process serves /metrics, /healthz and /readyz; off
	// when empty.
	MetricsAddr string `env:"TWOFOLD_METRICS_ADDR"`
	// PublicURL is where people reach the suite; links in mails begin with it.
	PublicURL string `env:"TWOFOLD_PUBLIC_URL"`
	// TrustedProxies are the proxies whose word about client addresses is believed:
	// addresses or prefixes, separated by commas.
	TrustedProxies []netip.Prefix `env:"TWOFOLD_TRUSTED_PROXIES"`

	// DataDir is where the all-in-one keeps what its embedded parts store.
	DataDir string `env:"TWOFOLD_DATA_DIR" envDefault:"data"`
	// DatabaseURL is postgres://… or sqlite:/directory.
	DatabaseURL Secret `env:"TWOFOLD_DATABASE_URL"`
	// RedisURL is redis://… or rediss://….
	RedisURL Secret `env:"TWOFOLD_REDIS_URL"`
	// NATSURL is nats://… or tls://…, several separated by commas.
	NATSURL Secret `env:"TWOFOLD_NATS_URL"`
	// NATSReplicas is on how many NATS servers each event is kept.
	NATSReplicas int `env:"TWOFOLD_NATS_REPLICAS" envDefault:"1"`
	// SMTPURL is smtps://… (TLS from the start) or smtp://… (STARTTLS).
	SMTPURL Secret `env:"TWOFOLD_SMTP_URL"`
	// MailFrom is the sender of all mails, such as `Twofold <no-reply@example.com>`.
	MailFrom string `env:"TWOFOLD_MAIL_FROM"`
	// KeysFile holds the keys that secrets at rest are encrypted with.
	KeysFile string `env:"TWOFOLD_KEYS_FILE"`

	// OperatorToken is the bearer token of the platform team; none when empty.
	OperatorToken Secret `env:"TWOFOLD_OPERATOR_TOKEN"`
	// MinGracePeriod is the shortest grace period an admin may choose.
	MinGracePeriod time.Duration `env:"TWOFOLD_MIN_GRACE_PERIOD" envDefault:"0s"`
	// DefaultGracePeriod is the grace period of an account that chose none.
	DefaultGracePeriod time.Duration `env:"TWOFOLD_DEFAULT_GRACE_PERIOD" envDefault:"168h"`
	// NoDemo keeps the all-in-one from making the demo account.
	NoDemo bool `env:"TWOFOLD_NO_DEMO"`

	// PolicyAddr is where the policy service serves gRPC, for those who call it.
	PolicyAddr string `env:"TWOFOLD_POLICY_ADDR"`
	// AuthAddr is where the auth service serves gRPC.
	AuthAddr string `env:"TWOFOLD_AUTH_ADDR"`
	// SessionAddr is where the session service serves gRPC.
	SessionAddr string `env:"TWOFOLD_SESSION_ADDR"`
	// NotifierAddr is where the notifier serves gRPC.
	NotifierAddr string `env:"TWOFOLD_NOTIFIER_ADDR"`
	// TLSCert is the file with the process's certificate, which carries its identity.
	TLSCert string `env:"TWOFOLD_TLS_CERT"`
	// TLSKey is the file with the certificate's key.
	TLSKey string `env:"TWOFOLD_TLS_KEY"`
	// TLSCA is the file with the authorities whose certificates are accepted.
	TLSCA string `env:"TWOFOLD_TLS_CA"`

	// ShutdownDelay is for how long a process that is told to stop says that it is
	// not ready before it refuses calls.
	ShutdownDelay time.Duration `env:"TWOFOLD_SHUTDOWN_DELAY" envDefault:"0s"`
	// ShutdownTimeout bounds the stop after that.
	ShutdownTimeout time.Duration `env:"TWOFOLD_SHUTDOWN_TIMEOUT" envDefault:"25s"`

	// LogFormat is `text` or `json`.
	LogFormat string `env:"TWOFOLD_LOG_FORMAT" envDefault:"text"`
	// LogLevel is `debug`, `info`, `warn` or `error`.
	LogLevel string `env:"TWOFOLD_LOG_LEVEL" envDefault:"info"`

	// OTELExporterOTLPEndpoint is the base URL of the OpenTelemetry collector that traces go to;
	// none are recorded when empty. This and the next are OpenTelemetry's own names;
	// its SDK reads the rest of them by itself.
	OTELExporterOTLPEndpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	// OTELExporterOTLPProtocol is how the collector is spoken to: `http/protobuf`.
	OTELExporterOTLPProtocol string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" envDefault:"http/protobuf"`
}

// CallShutdownTimeout is the part of ShutdownTimeout that calls under way have to
// finish. The doors of REST and of gRPC stop one after the other, and what works in
// the background needs the rest.
func (c *Config) CallShutdownTimeout() time.Duration { return c.ShutdownTimeout * 2 / 5 }

// Secret is a value that is never printed: a token, or a URL with a password.
type Secret string

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String says only whether there is a value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[secret]"
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return fmt.Sprintf("app.Secret(%q)", s.String()) }

// MarshalText keeps encoders, such as those of slog, from printing the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LoadConfig reads the configuration from variables in the form of os.Environ.
// The required ones must be set. It reports all mistakes at once, by the
// variable's name and without its value.
func LoadConfig(environ []string, required ...string) (*Config, error) {
	values := map[string]string{}
	known := slices.Collect(maps.Values(variables()))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains(known, name) || strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, testPrefix) {
			values[name] = value
		}
	}
	config := &Config{}
	problems := unknownVariables(values)
	// Compose files pass variables on that are set to nothing.
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
	problems = append(problems, parse(config, values)...)
	problems = append(problems, config.problems()...)
	for _, name := range required {
		if values[name] == "" {
			problems = append(problems, name+" is not set, and this process needs it")
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return nil, errors.New("configuration:\n  " + strings.Join(slices.Compact(problems), "\n  "))
	}
	return config, nil
}

// unknownVariables finds variables that nobody reads: a misspelled name would
// otherwise be a default in disguise. Kubernetes puts names of services into the
// environment; deployments switch that off with enableServiceLinks: false.
func unknownVariables(values map[string]string) (problems []string) {
	known := map[string]bool{}
	for _, name := range variables() {
		known[name] = true
	}
	for name := range values {
		if !known[name] {
			problems = append(problems, name+" is not a variable of Twofold")
		}
	}
	return problems
}

// variables returns the variable of each field, by the field's name.
func variables() map[string]string {
	names := map[string]string{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		names[field.Name] = field.Tag.Get("env")
	}
	return names
}

func parse(config *Config, values map[string]string) (problems []string) {
	err := env.ParseWithOptions(config, env.Options{
		Environment: values,
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[[]netip.Prefix](): func(text string) (any, error) { return parsePrefixes(text) },
		},
	})
	var all env.AggregateError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &all):
		return []string{err.Error()}
	}
	names := variables()
	for _, err := range all.Errors {
		var mistake env.ParseError
		if !errors.As(err, &mistake) {
			problems = append(problems, err.Error())
			continue
		}
		problems = append(problems, fmt.Sprintf("%s is not a valid %s", names[mistake.Name], kindOf(mistake.Type)))
	}
	return problems
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration, such as 168h"
	case reflect.TypeFor[[]netip.Prefix]():
		return "list of addresses and prefixes"
	case reflect.TypeFor[bool]():
		return "truth value: 1 or 0"
	}
	return t.String()
}

// parsePrefixes reads addresses and prefixes, separated by commas.
func parsePrefixes(text string) (prefixes []netip.Prefix, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if address, err := netip.ParseAddr(part); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// problems returns what is wrong with the values, by variable.
func (c *Config) problems() (problems []string) {
	for _, check := range []struct {
		bad  bool
		text string
	}{
		{!isAddr(c.HTTPAddr), "TWOFOLD_HTTP_ADDR is not host:port"},
		{!isAddr(c.GRPCAddr), "TWOFOLD_GRPC_ADDR is not host:port"},
		{c.MetricsAddr != "" && !isAddr(c.MetricsAddr), "TWOFOLD_METRICS_ADDR is not host:port"},
		{c.PolicyAddr != "" && !isAddr(c.PolicyAddr), "TWOFOLD_POLICY_ADDR is not host:port"},
		{c.AuthAddr != "" && !isAddr(c.AuthAddr), "TWOFOLD_AUTH_ADDR is not host:port"},
		{c.SessionAddr != "" && !isAddr(c.SessionAddr), "TWOFOLD_SESSION_ADDR is not host:port"},
		{c.NotifierAddr != "" && !isAddr(c.NotifierAddr), "TWOFOLD_NOTIFIER_ADDR is not host:port"},
		{!hasScheme(c.DatabaseURL, "postgres://", "postgresql://", "sqlite:"), "TWOFOLD_DATABASE_URL is neither postgres://… nor sqlite:…"},
		{!hasScheme(c.RedisURL, "redis://", "rediss://"), "TWOFOLD_REDIS_URL is neither redis://… nor rediss://…"},
		{!hasScheme(c.NATSURL, "nats://", "tls://"), "TWOFOLD_NATS_URL is neither nats://… nor tls://…"},
		{!hasScheme(c.SMTPURL, "smtp://", "smtps://"), "TWOFOLD_SMTP_URL is neither smtps://… nor smtp://…"},
		{!isPublicURL(c.PublicURL), "TWOFOLD_PUBLIC_URL is not http(s)://host, without query or fragment"},
		{!isMailAddress(c.MailFrom), "TWOFOLD_MAIL_FROM is not a mail address"},
		{c.MinGracePeriod < 0, "TWOFOLD_MIN_GRACE_PERIOD is negative"},
		{c.DefaultGracePeriod < c.MinGracePeriod, "TWOFOLD_DEFAULT_GRACE_PERIOD is shorter than TWOFOLD_MIN_GRACE_PERIOD"},
		{c.NATSReplicas < 1 || c.NATSReplicas > 5, "TWOFOLD_NATS_REPLICAS is not between 1 and 5"},
		{c.OperatorToken != "" && len(c.OperatorToken) < minOperatorToken, "TWOFOLD_OPERATOR_TOKEN is shorter than 16 characters"},
		{strings.ContainsAny(string(c.OperatorToken), " ,\t\r\n"), "TWOFOLD_OPERATOR_TOKEN contains a space or comma"},
		{!allOrNone(c.TLSCert, c.TLSKey, c.TLSCA), "TWOFOLD_TLS_CERT, TWOFOLD_TLS_KEY and TWOFOLD_TLS_CA are set only in part"},
		{c.ShutdownDelay < 0 || c.ShutdownDelay > maxShutdown, "TWOFOLD_SHUTDOWN_DELAY is not between 0s and 10m"},
		{c.ShutdownTimeout < time.Second || c.ShutdownTimeout > maxShutdown, "TWOFOLD_SHUTDOWN_TIMEOUT is not between 1s and 10m"},
		{c.LogFormat != "text" && c.LogFormat != "json", "TWOFOLD_LOG_FORMAT is neither text nor json"},
		{!isLevel(c.LogLevel), "TWOFOLD_LOG_LEVEL is not debug, info, warn or error"},
		{!isPublicURL(c.OTELExporterOTLPEndpoint), "OTEL_EXPORTER_OTLP_ENDPOINT is not http(s)://host:port"},
		{c.OTELExporterOTLPProtocol != "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf, the only one spoken"},
	} {
		if check.bad {
			problems = append(problems, check.text)
		}
	}
	return problems
}

// minOperatorToken keeps out tokens that could be guessed; `openssl rand -hex 32`
// makes a good one.
const minOperatorToken = 16

func isAddr(text string) bool {
	_, port, err := net.SplitHostPort(text)
	return err == nil && port != ""
}

// hasScheme reports whether a URL, if there is one, begins with a scheme. Only
// the scheme is looked at: who opens the URL knows the rest.
func hasScheme(value Secret, schemes ...string) bool {
	return value == "" || slices.ContainsFunc(schemes, func(s string) bool { return strings.HasPrefix(string(value), s) })
}

func isPublicURL(text string) bool {
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

func isMailAddress(text string) bool {
	if text == "" {
		return true
	}
	_, err := mail.ParseAddress(text)
	return err == nil
}

func allOrNone(values ...string) bool {
	set := 0
	for _, v := range values {
		if v != "" {
			set++
		}
	}
	return set == 0 || set == len(values)
}
