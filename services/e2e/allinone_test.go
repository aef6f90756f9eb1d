package e2e

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/e2e/story"
	"github.com/twofold-auth/twofold/services/internal/app"
)

// startAllInOne runs an all-in-one on embedded parts inside the test process,
// where the race detector sees all of it.
func startAllInOne(t *testing.T) running {
	t.Helper()
	config, err := app.LoadConfig([]string{
		"TWOFOLD_HTTP_ADDR=127.0.0.1:0", "TWOFOLD_GRPC_ADDR=127.0.0.1:0", "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_DATA_DIR=" + t.TempDir(), "TWOFOLD_OPERATOR_TOKEN=" + operatorToken,
	})
	require.NoError(t, err)
	suite, err := allinone.Open(t.Context(), &app.Process{
		Config: config, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Metrics: app.NewRegistry(), Now: time.Now,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- suite.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, suite.AwaitReady(ready))
	conn := dial(t, suite.GRPCAddr, nil, "")
	return running{
		baseURL: suite.URL,
		connect: func(string) grpc.ClientConnInterface { return conn },
		mail:    story.Inbox(suite.URL),
	}
}

func TestStory_allInOne(t *testing.T) {
	t.Parallel()
	startAllInOne(t).play(t, 20*time.Second)
}
