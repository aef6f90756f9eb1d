// The demo plays the product's story in the terminal, against an all-in-one of its
// own that is gone afterwards. It ends with a failure when anything differs from
// what the product promises.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/e2e/story"
	"github.com/twofold-auth/twofold/services/internal/app"
)

const (
	// grace leaves the story time for what happens before the deadline.
	grace = 8 * time.Second
	// limit bounds the whole demo.
	limit = 3 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "\n✗ %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "twofold-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	operator := rand.Text()
	config, err := app.LoadConfig([]string{
		"TWOFOLD_HTTP_ADDR=127.0.0.1:0", "TWOFOLD_GRPC_ADDR=127.0.0.1:0",
		"TWOFOLD_DATA_DIR=" + dir, "TWOFOLD_NO_DEMO=1", "TWOFOLD_OPERATOR_TOKEN=" + operator,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	suite, err := allinone.Open(ctx, &app.Process{Config: config, Log: log, Metrics: app.NewRegistry(), Now: time.Now})
	if err != nil {
		return err
	}
	return suite.Run(ctx, func(ctx context.Context) error {
		defer cancel() // the suite has served its purpose
		if err := suite.AwaitReady(ctx); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "A suite of its own is ready at %s (%d ms). The grace period of a week is %s here.\n",
			suite.URL, time.Since(began).Milliseconds(), grace)
		if err := story.Play(ctx, story.Options{
			BaseURL: suite.URL, OperatorToken: operator, Mail: story.Inbox(suite.URL), Grace: grace, Out: out, Now: time.Now,
		}); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "\nThe whole story, as promised (%s).\n", time.Since(began).Round(time.Second))
		return nil
	})
}
