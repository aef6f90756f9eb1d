package session

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

type metrics struct {
	verdicts       *prometheus.CounterVec
	touchesDropped prometheus.Counter
	swept          prometheus.Counter
	repairs        *prometheus.CounterVec
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
	}
	var problems []error
	for _, c := range []prometheus.Collector{m.verdicts, m.touchesDropped, m.swept, m.repairs} {
		problems = append(problems, reg.Register(c))
	}
	return m, errors.Join(problems...)
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
