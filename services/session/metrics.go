package session

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

type metrics struct {
	verdicts       *prometheus.CounterVec
	touchesDropped prometheus.Counter
	swept          prometheus.Counter
	repairs        *prometheus.CounterVec
	due            prometheus.Gauge
	overdue        prometheus.Gauge
	sweepSeconds   prometheus.Histogram
	sweepFailures  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_session_verdicts_total",
			Help: "Verdicts by reason; the reason of a session that stands is OK.",
		}, []string{"reason"}),
		touchesDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_session_last_seen_dropped_total",
			Help: "Writes of a session's last use that were dropped because too many waited.",
		}),
		swept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_session_swept_total",
			Help: "Sessions ended by scheduled revocations.",
		}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_session_store_repairs_total",
			Help: "Repairs of a store found empty (begun) or older than it had been (replayed).",
		}, []string{"how"}),
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_session_sweep_due",
			Help: "Scheduled revocations that are due and not done, as this process saw last (32 at most).",
		}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_session_sweep_overdue_seconds",
			Help: "How long the scheduled revocation that is due longest has been due; 0 when none is.",
		}),
		sweepSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "twofold_session_sweep_seconds",
			Help:    "How long the sessions of one scheduled revocation took to end.",
			Buckets: []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		sweepFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_session_sweep_failures_total",
			Help: "Sweeps that were interrupted and are tried again.",
		}),
	}
	var problems []error
	for _, c := range []prometheus.Collector{m.verdicts, m.touchesDropped, m.swept, m.repairs, m.due, m.overdue, m.sweepSeconds, m.sweepFailures} {
		problems = append(problems, reg.Register(c))
	}
	// An alert on an increase does not see a counter come into being at one.
	for _, how := range []string{repairBegun, repairReplayed} {
		m.repairs.WithLabelValues(how)
	}
	return m, errors.Join(problems...)
}

// How a store was repaired.
const (
	repairBegun    = "begun"    // it was empty
	repairReplayed = "replayed" // it was older than it had been
)

// sawDue notes what a look at the schedule found.
func (m *metrics) sawDue(due []scheduled, now time.Time) {
	m.due.Set(float64(len(due)))
	overdue := time.Duration(0)
	for _, e := range due {
		overdue = max(overdue, now.Sub(e.due))
	}
	m.overdue.Set(overdue.Seconds())
}

func (m *metrics) countVerdict(err error) {
	reason := "OK"
	if err != nil {
		if reason = errs.ReasonOf(err); reason == "" {
			reason = errs.ReasonInternal
		}
	}
	m.verdicts.WithLabelValues(reason).Inc()
}
