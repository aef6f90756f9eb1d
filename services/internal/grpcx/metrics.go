package grpcx

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// metrics counts and times the calls of one server.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	panics  prometheus.Counter
}

// newMetrics registers the metrics of a server of these services under its name, so
// that several servers of one process can share a registry. Faults are counted from
// zero: an alert on an increase does not see a counter come into being at one.
func newMetrics(registerer prometheus.Registerer, server string, services map[string]grpc.ServiceInfo) (*metrics, error) {
	labels := prometheus.Labels{"server": server}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_grpc_calls_total", ConstLabels: labels,
			Help: "Calls answered, by method, gRPC code and reason; a call that succeeds has none.",
		}, []string{"method", "code", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "twofold_grpc_call_seconds", ConstLabels: labels,
			Help:    "Time from the arrival of a call to its answer, by method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_grpc_panics_total", ConstLabels: labels,
			Help: "Calls that ended in a panic.",
		}),
	}
	for _, collector := range []prometheus.Collector{m.calls, m.seconds, m.panics} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("grpcx: metrics of %s: %w", server, err)
		}
	}
	fault := errs.Internal(nil)
	for service, info := range services {
		for _, method := range info.Methods {
			m.calls.WithLabelValues("/"+service+"/"+method.Name, fault.Code().String(), fault.Reason())
		}
	}
	return m, nil
}

func (m *metrics) observe(method string, code codes.Code, reason string, elapsed time.Duration) {
	m.calls.WithLabelValues(method, code.String(), reason).Inc()
	m.seconds.WithLabelValues(method).Observe(elapsed.Seconds())
}
