package policy

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

type metrics struct {
	updates        *prometheus.CounterVec
	applyFailures  prometheus.Counter
	reconciled     prometheus.Counter
	reconcileError prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_policy_updates_total",
			Help: "Policy updates answered, by transition (ENABLED, UPDATED, DISABLED, UNCHANGED, REPEATED).",
		}, []string{"transition"}),
		applyFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_policy_apply_failures_total",
			Help: "Updates the session service could not be told of at once.",
		}),
		reconciled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_policy_reconciliations_total",
			Help: "Times that a session store which began anew was told every enforcement.",
		}),
		reconcileError: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_policy_reconcile_errors_total",
			Help: "Failed attempts to tell the session service. A lasting increase wants attention.",
		}),
	}
	var failed []error
	for _, c := range []prometheus.Collector{m.updates, m.applyFailures, m.reconciled, m.reconcileError} {
		failed = append(failed, reg.Register(c))
	}
	if err := errors.Join(failed...); err != nil {
		return nil, fmt.Errorf("policy: metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) saved(transition enforcement.Transition) {
	if transition == "" {
		transition = "REPEATED"
	}
	m.updates.WithLabelValues(string(transition)).Inc()
}
