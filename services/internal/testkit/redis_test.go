package testkit_test

import (
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// What tests of a lost or rolled back Redis build on: a restart brings back the
// last Save and nothing newer, on the same URL.
func TestRedis_comesBackAsOldAsItsLastSave(t *testing.T) {
	server := testkit.Redis(t)
	url := server.URL()
	client := redisClient(t, url)
	require.NoError(t, client.Set(t.Context(), "saved", 1, 0).Err())
	server.Save(t)
	require.NoError(t, client.Set(t.Context(), "unsaved", 1, 0).Err())

	server.Kill(t)
	require.Error(t, client.Ping(t.Context()).Err())
	server.Start(t)

	require.Equal(t, url, server.URL())
	require.Equal(t, []string{"saved"}, client.Keys(t.Context(), "*").Val())
	server.FlushAll(t)
	require.Empty(t, client.Keys(t.Context(), "*").Val())
	server.Restart(t)
	require.Equal(t, []string{"saved"}, client.Keys(t.Context(), "*").Val())
}

func TestRedis_eachTestHasItsOwnServer(t *testing.T) {
	first, second := testkit.Redis(t), testkit.Redis(t)
	require.NotEqual(t, first.URL(), second.URL())
}

func TestRedisCluster_servesEverySlotAcrossThreeMasters(t *testing.T) {
	cluster := testkit.RedisCluster(t)
	options, err := redis.ParseClusterURL(cluster.URL())
	require.NoError(t, err)
	require.ElementsMatch(t, cluster.Addrs(), options.Addrs)
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })

	for i := range 300 {
		require.NoError(t, client.Set(t.Context(), "key:"+strconv.Itoa(i), i, 0).Err())
	}
	total := 0
	for _, node := range cluster.Nodes {
		n := int(redisClient(t, node.URL()).DBSize(t.Context()).Val())
		require.NotZero(t, n, "a node without a key")
		total += n
	}
	require.Equal(t, 300, total)

	// A node that was killed takes its place again.
	cluster.Nodes[1].Kill(t)
	cluster.Nodes[1].Start(t)
	cluster.WaitWhole(t)
	cluster.FlushAll(t)
	for _, node := range cluster.Nodes {
		require.Zero(t, redisClient(t, node.URL()).DBSize(t.Context()).Val())
	}
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}
