// Command mtlsca makes a throwaway certificate authority and identities for
// the processes of the suite, for development and tests:
//
//	mtlsca -dir certs policy auth session notifier gateway operator
//
// writes ca.pem, ca-key.pem and, for each name, name.pem and name-key.pem. Run
// again, it keeps the authority and replaces the named identities; running
// processes pick the new files up by themselves.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/internal/mtls"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "mtlsca:", err)
		}
		os.Exit(2)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("mtlsca", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = fmt.Fprintln(stderr, "usage: mtlsca -dir DIR [-dns NAME,NAME] IDENTITY...")
		flags.PrintDefaults()
	}
	dir := flags.String("dir", "", "the directory to write to; it holds private keys")
	dns := flags.String("dns", "", "DNS names to put into every certificate, for clients that check them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || flags.NArg() == 0 {
		flags.Usage()
		return flag.ErrHelp
	}
	authority, err := mtls.OpenAuthority(*dir, time.Now)
	if err != nil {
		return err
	}
	var dnsNames []string
	if *dns != "" {
		dnsNames = strings.Split(*dns, ",")
	}
	for _, name := range flags.Args() {
		if err := authority.IssueFiles(*dir, name, dnsNames...); err != nil {
			return err
		}
	}
	return nil
}
