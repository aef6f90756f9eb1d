// Auditverify verifies the chains of the audit logs in a database. docs/audit.md
// says what they are.
//
// It exits with 0 when every chain holds, with 1 when one is broken, after naming
// the first broken event of each, and with 2 when it could not find out.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

const (
	exitHolds   = 0
	exitBroken  = 1
	exitUnknown = 2
)

// databaseVariable holds the URL rather than a flag: everybody on a machine can
// read the arguments of a process, and the URL may hold a password.
const databaseVariable = "TWOFOLD_DATABASE_URL"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv(databaseVariable), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, url string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("auditverify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	service := flags.String("service", "", "only this service's logs: policy, auth or notifier (default all)")
	known := flags.String("known", "", "a `file` of what this command printed earlier: the chains must still hold it")
	account := flags.String("account", "", "only this account's log, by its bare id")
	if err := flags.Parse(args); err != nil {
		return exitUnknown
	}
	v := &verification{account: *account, stdout: stdout, stderr: stderr}
	services := []string{"policy", "auth", "notifier"}
	if *service != "" {
		if !slices.Contains(services, *service) {
			return v.failed(fmt.Errorf("there is no audit log of %q", *service))
		}
		services = []string{*service}
	}
	if url == "" || flags.NArg() > 0 {
		return v.failed(fmt.Errorf("want %s in the environment, and no arguments besides flags", databaseVariable))
	}
	if err := v.readKnown(*known); err != nil {
		return v.failed(err)
	}
	for _, service := range services {
		if err := v.verify(ctx, url, service); err != nil {
			return v.failed(err)
		}
	}
	if v.broken {
		return exitBroken
	}
	return exitHolds
}

type verification struct {
	account        string
	known          []audit.Head
	broken         bool
	stdout, stderr io.Writer
}

func (v *verification) failed(err error) int {
	_, _ = fmt.Fprintln(v.stderr, "auditverify:", err)
	return exitUnknown
}

// readKnown reads lines as verify writes them.
func (v *verification) readKnown(path string) (err error) {
	if path == "" {
		return nil
	}
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var h audit.Head
		if _, err := fmt.Sscan(lines.Text(), &h.Service, &h.Account, &h.Sequence, &h.Hash); err != nil {
			return fmt.Errorf("%s: want lines of service, account, sequence and hash: %w", path, err)
		}
		v.known = append(v.known, h)
	}
	return lines.Err()
}

// verify verifies the chains of one service. Those that hold it prints as they
// are now, to be known the next time.
func (v *verification) verify(ctx context.Context, url, service string) (err error) {
	db, err := sqldb.Open(ctx, url, service)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	accounts, err := audit.Accounts(ctx, db)
	if err != nil {
		return fmt.Errorf("the log of %s is not to be read there; where each service has a role of its own, use -service %s with its URL: %w", service, service, err)
	}
	for _, h := range v.known {
		if h.Service == service && !slices.Contains(accounts, h.Account) {
			accounts = append(accounts, h.Account) // its chain is gone
		}
	}
	for _, account := range accounts {
		if v.account != "" && account != v.account {
			continue
		}
		known := slices.DeleteFunc(slices.Clone(v.known), func(h audit.Head) bool {
			return h.Service != service || h.Account != account
		})
		head, broken, err := audit.Verify(ctx, db, account, known...)
		if err != nil {
			return err
		}
		if broken != nil {
			v.broken = true
			_, _ = fmt.Fprintln(v.stderr, "BROKEN", broken)
			continue
		}
		if _, err := fmt.Fprintln(v.stdout, strings.Join([]string{
			head.Service, head.Account, fmt.Sprint(head.Sequence), head.Hash,
		}, " ")); err != nil {
			return err
		}
	}
	return nil
}
