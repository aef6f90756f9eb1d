package notifier

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// Outcomes of attempts beside those of package smtppool.
const (
	// outcomeUnreachable: there was no connection.
	outcomeUnreachable = "unreachable"
	// outcomeInterrupted: the process ended in the middle.
	outcomeInterrupted = "interrupted"
)

type metrics struct {
	notices  *prometheus.CounterVec
	attempts *prometheus.CounterVec
	seconds  prometheus.Histogram
	backlog  *prometheus.GaugeVec
	oldest   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_notifier_notices_total",
			Help: "Notices that came into a state, by kind.",
		}, []string{"kind", "state"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_notifier_attempts_total",
			Help: "Attempts to hand over a mail, by outcome (sent, retryable, rejected, ambiguous, unreachable, interrupted).",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "twofold_notifier_attempt_seconds",
			Help:    "How long the mail server takes for a mail.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180},
		}),
		backlog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_notifier_backlog",
			Help: "Notices that wait, by state.",
		}, []string{"state"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_notifier_backlog_oldest_seconds",
			Help: "How long the notice that waits longest has waited.",
		}),
	}
	var failed []error
	for _, c := range []prometheus.Collector{m.notices, m.attempts, m.seconds, m.backlog, m.oldest} {
		failed = append(failed, reg.Register(c))
	}
	if err := errors.Join(failed...); err != nil {
		return nil, fmt.Errorf("notifier: metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) count(kind mail.Kind, s state, notices int64) {
	m.notices.WithLabelValues(string(kind), string(s)).Add(float64(notices))
}

func (m *metrics) outcome(outcome string) { m.attempts.WithLabelValues(outcome).Inc() }

func (m *metrics) waiting(b backlog) {
	for _, s := range []state{stateQueued, stateRetrying, stateSending} {
		m.backlog.WithLabelValues(string(s)).Set(float64(b.notices[s]))
	}
	m.oldest.Set(b.oldest.Seconds())
}
