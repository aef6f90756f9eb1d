package outbox

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	pending     prometheus.Gauge
	oldest      prometheus.Gauge
	published   prometheus.Counter
	republished prometheus.Counter
	failures    prometheus.Counter
	stuck       prometheus.Counter
}

// newMetrics registers the metrics of one outbox, or joins those that another
// relay on the same outbox has registered. Several outboxes of a process differ
// in the label.
func newMetrics(reg prometheus.Registerer, schema string) *metrics {
	labels := prometheus.Labels{"outbox": schema}
	return &metrics{
		pending: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_outbox_pending", Help: "Events committed and not published yet.", ConstLabels: labels,
		})),
		oldest: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twofold_outbox_oldest_seconds", Help: "Age of the oldest event not published yet.", ConstLabels: labels,
		})),
		published: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_outbox_published_total", Help: "Events published, repetitions included.", ConstLabels: labels,
		})),
		republished: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_outbox_lost_total", Help: "Events the stream had lost, to be published again.", ConstLabels: labels,
		})),
		failures: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_outbox_failures_total", Help: "Times the relay was interrupted, by the database or by NATS.", ConstLabels: labels,
		})),
		stuck: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_outbox_unpublishable_total", Help: "Events found that can never be published. Any increase wants a person's attention.", ConstLabels: labels,
		})),
	}
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic(err) // two metrics of one name: a mistake in the code, found at start
	}
	return c
}
