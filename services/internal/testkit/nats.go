package testkit

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// messagesLimit bounds how long the messages of a stream are waited for.
const messagesLimit = 5 * time.Second

// NATSServer is a NATS server with JetStream on files, synced on every message
// as in production. It runs inside the test process: a test that must see it
// crash runs the whole process.
type NATSServer struct {
	port   int
	store  string
	server *server.Server
}

// NATS starts a NATS server for this test.
func NATS(t testing.TB) *NATSServer {
	t.Helper()
	s := &NATSServer{store: t.TempDir()}
	require.NoError(t, onFreePort(s.start), "start NATS")
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// URL is the server's nats:// URL, the same after a restart.
func (s *NATSServer) URL() string { return "nats://" + loopback(s.port) }

// Stop ends the server and keeps what it stored.
func (s *NATSServer) Stop(testing.TB) {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// Start starts the server again after Stop: same port, same store.
func (s *NATSServer) Start(t testing.TB) {
	t.Helper()
	require.NoError(t, s.start(s.port), "start NATS again")
}

// Restart is Stop and Start.
func (s *NATSServer) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Wipe restarts the server with an empty store, as after the loss of its disk.
func (s *NATSServer) Wipe(t testing.TB) {
	t.Helper()
	s.Stop(t)
	require.NoError(t, os.RemoveAll(s.store))
	s.Start(t)
}

func (s *NATSServer) start(port int) error {
	ns, err := server.NewServer(&server.Options{
		ServerName: "testkit",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   s.store,
		SyncAlways: true,
		NoLog:      true,
		NoSigs:     true, // signals belong to the test process
	})
	if err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(startLimitNATS) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return errors.New("NATS did not become ready")
	}
	s.port, s.server = port, ns
	return nil
}

// startLimitNATS is shorter than startLimit: a port that was taken meanwhile
// shows only as not becoming ready.
const startLimitNATS = 20 * time.Second

// Messages returns every message of a stream, in its order.
func (s *NATSServer) Messages(t testing.TB, stream string) []jetstream.Msg {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	if info.NumPending == 0 {
		return nil
	}
	batch, err := consumer.Fetch(int(info.NumPending), jetstream.FetchMaxWait(messagesLimit))
	require.NoError(t, err)
	var all []jetstream.Msg
	for msg := range batch.Messages() {
		all = append(all, msg)
	}
	require.NoError(t, batch.Error())
	return all
}
