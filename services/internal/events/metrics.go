package events

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a message.
const (
	outcomeOK         = "ok"
	outcomeRetry      = "retry"
	outcomeDeadLetter = "dead_letter"
)

type metrics struct {
	handled     *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	redelivered *prometheus.CounterVec
	waiting     *prometheus.GaugeVec
	held        *prometheus.GaugeVec
}

// newMetrics registers the metrics, or joins those another bus of the process
// has registered: all of them carry the consumer's name.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_events_handled_total",
			Help: "Deliveries by consumer, event and outcome (ok, retry, dead_letter).",
		}, []string{"consumer", "event", "outcome"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_events_dead_letters_total",
			Help: "Messages moved to the dead-letter stream. Any increase wants a person's attention.",
		}, []string{"consumer", "event"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "twofold_events_handler_seconds",
			Help:    "Time a handler took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"consumer"}),
		redelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_events_redelivered_total",
			Help: "Deliveries of messages that had been delivered before.",
		}, []string{"consumer"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_events_consumer_waiting",
			Help: "Messages in the stream that were not delivered to the consumer yet.",
		}, []string{"consumer"}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_events_consumer_unacknowledged",
			Help: "Messages delivered to some copy of the consumer and not done: in work, or waiting for their next try.",
		}, []string{"consumer"}),
	}
	var err error
	m.handled, err = register(reg, m.handled)
	if err != nil {
		return nil, err
	}
	if m.deadLetters, err = register(reg, m.deadLetters); err != nil {
		return nil, err
	}
	if m.seconds, err = register(reg, m.seconds); err != nil {
		return nil, err
	}
	if m.redelivered, err = register(reg, m.redelivered); err != nil {
		return nil, err
	}
	if m.waiting, err = register(reg, m.waiting); err != nil {
		return nil, err
	}
	m.held, err = register(reg, m.held)
	return m, err
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return c, err
}

// begin makes the counters of a consumer that people are woken by, at zero. An alert
// on an increase does not see a counter come into being at one, and the first dead
// letter is the one to be told of.
func (m *metrics) begin(cfg ConsumerConfig) {
	m.redelivered.WithLabelValues(cfg.Durable)
	m.deadLetters.WithLabelValues(cfg.Durable, unknownEvent)
	for _, message := range cfg.Events {
		m.deadLetters.WithLabelValues(cfg.Durable, Event{Payload: message}.Name())
	}
}
