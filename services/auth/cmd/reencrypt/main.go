// Reencrypt makes anew, under the primary key of the keys file, what the database of
// auth holds under older keys, and says what is under which key then. It runs beside
// the services, as often as one likes. docs/keys.md says when.
//
// It exits with 0 when everything sealed is under the primary key and everything can
// be read, with 1 when something cannot or is still under an older key, and with 2
// when it could not find out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twofold-auth/twofold/services/auth"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	exitDone    = 0
	exitRemains = 1
	exitUnknown = 2

	// passes bounds how often it begins again because values turned up under an
	// older key meanwhile.
	passes = 3
	// progressInterval is how often progress is told.
	progressInterval = time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := &command{environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	code := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

type command struct {
	environ        []string
	stdout, stderr io.Writer
	now            func() time.Time
}

func (c *command) run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("reencrypt", flag.ContinueOnError)
	flags.SetOutput(c.stderr)
	countOnly := flags.Bool("count", false, "change nothing, only say what is under which key")
	if err := flags.Parse(args); err != nil {
		return exitUnknown
	}
	if flags.NArg() > 0 {
		return c.failed(errors.New("want no arguments besides flags"))
	}
	remains, err := c.work(ctx, *countOnly)
	if err != nil {
		return c.failed(err)
	}
	if remains {
		return exitRemains
	}
	return exitDone
}

func (c *command) failed(err error) int {
	_, _ = fmt.Fprintln(c.stderr, "reencrypt:", err)
	return exitUnknown
}

// work reports whether something remains that should not.
func (c *command) work(ctx context.Context, countOnly bool) (remains bool, err error) {
	config, err := app.LoadConfig(c.environ, "TWOFOLD_DATABASE_URL", "TWOFOLD_KEYS_FILE")
	if err != nil {
		return false, err
	}
	keys, err := keyring.Load(config.KeysFile)
	if err != nil {
		return false, err
	}
	db, err := sqldb.Open(ctx, config.DatabaseURL.Reveal(), auth.Schema)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	reencryption := auth.NewReencryption(db, keys)
	var uses []auth.KeyUse
	for range passes {
		if !countOnly {
			if err := reencryption.Run(ctx, c.progress()); err != nil {
				return false, err
			}
		}
		if uses, err = reencryption.Count(ctx); err != nil {
			return false, err
		}
		if countOnly || !outdated(uses, keys.Primary()) {
			break
		}
	}
	r := report{keys: keys.Names(), uses: uses}
	return r.remains(), r.print(c.stdout)
}

// outdated reports whether there is anything that another pass could make anew.
func outdated(uses []auth.KeyUse, primary string) bool {
	for _, use := range uses {
		if use.Sealed && use.Key != primary && use.Values > use.Unreadable {
			return true
		}
	}
	return false
}

// progress tells how far a pass has come: once a second, and at the end of each kind
// of values.
func (c *command) progress() func(auth.ReencryptionProgress) {
	var kind string
	var began, told time.Time
	return func(p auth.ReencryptionProgress) {
		now := c.now()
		if p.Kind != kind {
			kind, began, told = p.Kind, now, now
			return
		}
		if now.Sub(told) < progressInterval && p.Seen < p.Total {
			return
		}
		told = now
		rate := "" // of less than a moment says nothing
		if took := now.Sub(began).Seconds(); took >= 0.1 {
			rate = fmt.Sprintf(", %.0f/s", float64(p.Seen)/took)
		}
		_, _ = fmt.Fprintf(c.stderr, "%s: %d of %d, %d made anew%s\n", p.Kind, p.Seen, p.Total, p.Renewed, rate)
	}
}
