package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// RedisClusterServers is a Redis Cluster of three masters without replicas.
type RedisClusterServers struct {
	// Nodes are the masters. Killing one makes its slots unavailable, and the
	// others go on serving theirs.
	Nodes []*RedisServer
}

// RedisCluster starts a Redis Cluster for this test and returns when every node
// sees all slots served.
func RedisCluster(t testing.TB) *RedisClusterServers {
	t.Helper()
	c := &RedisClusterServers{}
	for range clusterNodes {
		c.Nodes = append(c.Nodes, Redis(t,
			"--cluster-enabled", "yes",
			"--cluster-node-timeout", "5000",
			"--cluster-require-full-coverage", "no",
		))
	}
	require.NoError(t, c.form(t.Context()), "form the Redis Cluster")
	return c
}

// Addrs are the nodes' host:port.
func (c *RedisClusterServers) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

// URL names all nodes the way [redis.ParseClusterURL] reads it.
func (c *RedisClusterServers) URL() string {
	addrs := c.Addrs()
	u := url.URL{Scheme: "redis", Host: addrs[0], RawQuery: url.Values{"addr": addrs[1:]}.Encode()}
	return u.String()
}

// FlushAll removes all data.
func (c *RedisClusterServers) FlushAll(t testing.TB) {
	t.Helper()
	for _, node := range c.Nodes {
		node.FlushAll(t)
	}
}

// form gives each node its share of the slots and introduces it to the first.
func (c *RedisClusterServers) form(ctx context.Context) error {
	for i, node := range c.Nodes {
		first, last := i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes-1
		if err := node.client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return fmt.Errorf("assign slots: %w", err)
		}
		// Nodes with one epoch settle it by gossip, which takes seconds.
		if err := node.client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return fmt.Errorf("set epoch: %w", err)
		}
		if i == 0 {
			continue
		}
		if err := c.Nodes[0].client.ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(node.port)).Err(); err != nil {
			return fmt.Errorf("meet: %w", err)
		}
	}
	return c.waitWhole(ctx)
}

// clusterWhole reports what a node still misses of the whole cluster. With
// partial coverage allowed, cluster_state alone is "ok" too early.
func clusterWhole(ctx context.Context, client *redis.Client) error {
	info, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	for _, want := range []string{"cluster_state:ok", "cluster_slots_ok:" + strconv.Itoa(clusterSlots), "cluster_known_nodes:" + strconv.Itoa(clusterNodes)} {
		if !strings.Contains(info, want+"\r\n") {
			return errors.New("no " + want)
		}
	}
	return nil
}

// WaitWhole waits until every node sees all slots served again, after one that
// was down came back.
func (c *RedisClusterServers) WaitWhole(t testing.TB) {
	t.Helper()
	require.NoError(t, c.waitWhole(t.Context()))
}

func (c *RedisClusterServers) waitWhole(ctx context.Context) error {
	for _, node := range c.Nodes {
		err := node.child.waitReady(startLimit, func() error { return clusterWhole(ctx, node.client) })
		if err != nil {
			return err
		}
	}
	return nil
}
