package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// dumpDatabase returns every column of every row of every table.
func dumpDatabase(t *testing.T, address string) []byte {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	rows, err := conn.Query(t.Context(), `SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 10)
	var dump bytes.Buffer
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), fmt.Sprintf(`SELECT r::text FROM %s r`, table)) // bytes come as hex
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, line := range lines {
			_, _ = fmt.Fprintf(&dump, "%s %s\n", table, line)
		}
	}
	return dump.Bytes()
}

// dumpStreams returns every message of the event streams, headers included.
func dumpStreams(t *testing.T, address string) []byte {
	t.Helper()
	nc, err := nats.Connect(address)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	var dump bytes.Buffer
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		stream, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		for seq := max(stream.CachedInfo().State.FirstSeq, 1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			msg, err := stream.GetMsg(t.Context(), seq)
			require.NoError(t, err)
			_, _ = fmt.Fprintf(&dump, "%s %v\n%s\n", msg.Subject, msg.Header, msg.Data)
		}
	}
	require.NoError(t, names.Err())
	return dump.Bytes()
}

// dumpRedis returns every key with what it holds.
func dumpRedis(t *testing.T, address string) []byte {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address})
	defer func() { require.NoError(t, client.Close()) }()
	var dump bytes.Buffer
	keys := client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		kind, err := client.Type(t.Context(), key).Result()
		require.NoError(t, err)
		var held any
		switch kind {
		case "string":
			held, err = client.Get(t.Context(), key).Result()
		case "hash":
			held, err = client.HGetAll(t.Context(), key).Result()
		case "set":
			held, err = client.SMembers(t.Context(), key).Result()
		case "zset":
			held, err = client.ZRange(t.Context(), key, 0, -1).Result()
		case "list":
			held, err = client.LRange(t.Context(), key, 0, -1).Result()
		case "stream":
			held, err = client.XRange(t.Context(), key, "-", "+").Result()
		case "none": // has expired
		default:
			require.Fail(t, "nobody looks into a "+kind)
		}
		require.NoError(t, err)
		_, _ = fmt.Fprintf(&dump, "%s %v\n", key, held)
	}
	require.NoError(t, keys.Err())
	return dump.Bytes()
}

// scrape returns the metrics of a process.
func scrape(t *testing.T, addr string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	require.NoError(t, err)
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return body
}
