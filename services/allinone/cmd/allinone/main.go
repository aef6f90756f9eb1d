// The all-in-one runs the whole suite on one machine, for newcomers and
// development. It speaks without TLS, and on loopback only.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/internal/app"
)

const readyTimeout = time.Minute

func main() { app.Main("allinone", nil, run) }

func run(ctx context.Context, p *app.Process) error {
	began := p.Now()
	suite, err := allinone.Open(ctx, p)
	if err != nil {
		return err
	}
	return suite.Run(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		if err := suite.AwaitReady(ctx); err != nil {
			return err
		}
		took := p.Now().Sub(began)
		if err := suite.SeedDemo(ctx); err != nil {
			return err
		}
		greet(suite, took)
		return nil
	})
}

// greet tells a newcomer where everything is.
func greet(s *allinone.Suite, took time.Duration) {
	out := os.Stdout
	_, _ = fmt.Fprintf(out, "\nTwofold is ready (%d ms).\n\n", took.Milliseconds())
	_, _ = fmt.Fprintf(out, "  console  %s/      what admins and agents see\n", s.URL)
	_, _ = fmt.Fprintf(out, "  REST     %s/v1      described at %s/openapi.json\n", s.URL, s.URL)
	_, _ = fmt.Fprintf(out, "  gRPC     %s         without TLS, reflection on\n", s.GRPCAddr)
	if s.HasInbox() {
		_, _ = fmt.Fprintf(out, "  mails    %s/inbox   everything Twofold sent\n", s.URL)
	}
	if s.Demo == nil {
		_, _ = fmt.Fprintln(out)
		return
	}
	_, _ = fmt.Fprintf(out, "\n  Sign in to the account %q with the password %s as\n", s.Demo.Account, s.Demo.Password)
	for _, d := range s.Demo.SignIns {
		_, _ = fmt.Fprintf(out, "    %-22s %s (%s)\n", d.Email, d.DisplayName, d.Role)
	}
	_, _ = fmt.Fprintln(out)
}
