package session

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// bare is a store without a stream: what it costs is Redis and this package.
func bare(b *testing.B) (*Service, *clock) {
	b.Helper()
	server := testkit.Redis(b)
	db := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 32, ContextTimeoutEnabled: true})
	verdicts := redis.NewUniversalClient(VerdictOptions(redis.UniversalOptions{Addrs: []string{server.Addr()}}, time.Second))
	ahead, err := verdicts.AutoPipeline()
	require.NoError(b, err)
	b.Cleanup(func() { _, _ = db.Close(), verdicts.Close() })
	c := newClock()
	cfg := Config{}.withDefaults()
	s := &Service{
		cfg: cfg, now: c.Now, db: db, ahead: ahead, packer: newPacker(),
		store: &store{db: db, cfg: cfg, scripts: newScripts(), floor: &floor{}, changed: func(int) {}},
	}
	k := &keeper{store: s.store, now: c.Now, repaired: func(string) {}}
	at := mark{epoch: 1}
	metas, err := s.store.metas(b.Context())
	require.NoError(b, err)
	require.NoError(b, k.write(b.Context(), metas, at, func(m *meta) { m.born = time.UnixMilli(0) }))
	s.store.floor.raise(at)
	return s, c
}

// fill makes sessions at AAL1, one for each agent, all of one account.
func fill(b *testing.B, s *Service, c *clock, n int) []string {
	b.Helper()
	carried, err := s.cfg.read(off("bench", 1), c.Now())
	require.NoError(b, err)
	_, err = s.store.learn(b.Context(), carried)
	require.NoError(b, err)
	tokens := make([]string, n)
	var next atomic.Int64
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				ref := agentRef{account: "bench", agent: uuid.New()}
				t := newToken(ref, c.Now())
				req := request(ref.String(), nil)
				req.KeepMeLoggedIn = true
				if err := s.store.issue(b.Context(), s.newRecord(t, req, c.Now()), carried, nil, c.Now()); err != nil {
					b.Error(err)
					return
				}
				tokens[i] = t.encode()
			}
		})
	}
	wait.Wait()
	return tokens
}

func usedMemory(b *testing.B, db redis.UniversalClient) int {
	b.Helper()
	info, err := db.Info(b.Context(), "memory").Result()
	require.NoError(b, err)
	_, rest, _ := strings.Cut(info, "used_memory:")
	text, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(text)
	require.NoError(b, err)
	return n
}

// Memory per session at AAL1, indexes included, and how fast a deadline ends them.
// Run with -benchtime=1000000x for the figure that counts.
func BenchmarkSweep(b *testing.B) {
	s, c := bare(b)
	before := usedMemory(b, s.db)
	fill(b, s, c, b.N)
	memory := float64(usedMemory(b, s.db)-before) / float64(b.N)
	e, err := s.cfg.read(on("bench", 2, c.Now().Add(time.Second), time.Hour), c.Now())
	require.NoError(b, err)
	_, err = s.store.apply(b.Context(), e)
	require.NoError(b, err)
	c.Advance(2 * time.Hour)
	m, err := newMetrics(prometheus.NewRegistry())
	require.NoError(b, err)
	w := &sweeper{
		store: s.store, now: c.Now, owner: "bench", steady: func() time.Duration { return 0 },
		caughtUp: func(context.Context) (bool, error) { return true, nil },
		swept:    func(n int64) { m.swept.Add(float64(n)) }, metrics: m,
	}
	b.ResetTimer()
	require.NoError(b, w.round(b.Context()))
	b.StopTimer()
	require.InDelta(b, b.N, testutil.ToFloat64(m.swept), 0)
	b.ReportMetric(memory, "B/session")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// A verdict without the RPC around it, by 64 callers.
func BenchmarkVerdict(b *testing.B) {
	s, c := bare(b)
	tokens := fill(b, s, c, 20_000)
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(7919)) % len(tokens)
			if _, err := s.store.validate(b.Context(), s.ahead, tokens[i], c.Now()); err != nil {
				b.Error(err)
			}
		}
	})
}

var benchSink *sessionv1.Session

// What a verdict costs beside the store.
func BenchmarkDecide(b *testing.B) {
	s, c := bare(b)
	token := fill(b, s, c, 1)[0]
	t, _ := parseToken(token)
	around, values, err := s.store.observe(b.Context(), s.db, t.agentRef, t.key())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		t, _ := parseToken(token)
		j, err := s.store.decide(t, around, values[0], c.Now())
		if err != nil {
			b.Fatal(err)
		}
		benchSink = s.toProto(j.record, j.revokeTime)
	}
}
