package allinone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const natsStart = 10 * time.Second

// startNATS starts an event server that keeps its stream under dir and that only
// this process can reach.
func startNATS(dir string) (*server.Server, error) {
	ns, err := server.NewServer(&server.Options{
		ServerName: "twofold",
		DontListen: true,
		JetStream:  true,
		StoreDir:   filepath.Join(dir, "nats"),
		// An event that was acknowledged survives the loss of power.
		SyncAlways: true,
		NoSigs:     true,
		NoLog:      true,
	})
	if err != nil {
		return nil, fmt.Errorf("allinone: NATS: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(natsStart) {
		ns.Shutdown()
		return nil, errors.New("allinone: NATS did not start")
	}
	return ns, nil
}

func inProcess(ns *server.Server) nats.Option { return nats.InProcessServer(ns) }

// startRedis starts a session store in memory. It listens on loopback, so it asks
// for a password that only this process knows.
func startRedis() (store *miniredis.Miniredis, url string, err error) {
	store = miniredis.NewMiniRedis()
	password := rand.Text()
	store.RequireAuth(password)
	if err := store.Start(); err != nil {
		return nil, "", fmt.Errorf("allinone: session store: %w", err)
	}
	return store, "redis://:" + password + "@" + store.Addr(), nil
}

// age makes time pass in the embedded session store, whose own does not: what has
// outlived its TTL goes. Nothing is decided by that.
func age(ctx context.Context, store *miniredis.Miniredis) error {
	const step = time.Minute
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			store.FastForward(step)
		}
	}
}
