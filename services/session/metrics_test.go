package session

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestMetrics_sawDue(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	m.sawDue([]scheduled{{due: now.Add(-time.Second)}, {due: now.Add(-time.Minute)}, {due: now}}, now)
	require.InDelta(t, 3, testutil.ToFloat64(m.due), 0)
	require.InDelta(t, 60, testutil.ToFloat64(m.overdue), 0)
	m.sawDue(nil, now)
	require.InDelta(t, 0, testutil.ToFloat64(m.due), 0)
	require.InDelta(t, 0, testutil.ToFloat64(m.overdue), 0, "nothing waits any more")
}

// An alert on an increase of repairs sees the first one only if there was a zero before.
func TestMetrics_repairsFromZero(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	require.NoError(t, err)
	repairs, err := testutil.GatherAndCount(registry, "twofold_session_store_repairs_total")
	require.NoError(t, err)
	require.Equal(t, 2, repairs)
	require.Zero(t, testutil.ToFloat64(m.repairs.WithLabelValues(repairBegun)))
	require.Zero(t, testutil.ToFloat64(m.repairs.WithLabelValues(repairReplayed)))
}
