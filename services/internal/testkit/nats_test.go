package testkit_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

func TestNATS_keepsItsStoreOverRestartAndLosesItOnWipe(t *testing.T) {
	server := testkit.NATS(t)
	url := server.URL()
	js := connect(t, url)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.one", []byte("1"))
	require.NoError(t, err)

	server.Restart(t)
	require.Equal(t, url, server.URL())
	stream, err := connect(t, url).Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)

	server.Wipe(t)
	_, err = connect(t, url).Stream(t.Context(), "S")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)

	server.Stop(t)
	_, err = nats.Connect(url)
	require.Error(t, err)
}

func TestNATS_eachTestHasItsOwnServer(t *testing.T) {
	first, second := testkit.NATS(t), testkit.NATS(t)
	require.NotEqual(t, first.URL(), second.URL())
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}
