package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// noRoute stands for the route of a request that has none. A path is never said
// instead: anybody can make paths up, and put secrets in them.
const noRoute = "none"

// metrics count and time the requests of the API.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twofold_http_requests_total",
			Help: "REST requests answered, by method, route and HTTP status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "twofold_http_request_seconds",
			Help:    "Time from the arrival of a REST request to the end of its answer, by route. Streams last as long as somebody watches.",
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"route"}),
	}
	if err := errors.Join(reg.Register(m.requests), reg.Register(m.seconds)); err != nil {
		return nil, fmt.Errorf("gateway: metrics: %w", err)
	}
	return m, nil
}

// visit is what becomes known of a request while it is answered.
type visit struct{ route, requestID string }

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// observe begins the trace of each request, and measures and logs it by its route.
// Only a proxy that is trusted with the caller's address is trusted with the trace
// too; that of anybody else is linked to.
func (s *Service) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.now()
		method := knownMethod(r.Method)
		hop, _ := parseHop(r.RemoteAddr)
		ctx, span := s.tracing.StartRequest(r.Context(), propagation.HeaderCarrier(r.Header), s.trusts(hop), method)
		v := &visit{route: noRoute}
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		// Also when a file is cut off, which is a panic.
		defer func() { s.observed(ctx, span, method, v, answer.status, s.now().Sub(began)) }()
		next.ServeHTTP(answer, r.WithContext(context.WithValue(ctx, visitKey{}, v)))
	})
}

func (s *Service) observed(ctx context.Context, span trace.Span, method string, v *visit, status int, elapsed time.Duration) {
	span.SetName(method + " " + v.route)
	span.SetAttributes(attribute.String("http.route", v.route), attribute.Int("http.response.status_code", status),
		attribute.String("twofold.request_id", v.requestID))
	level, text := slog.LevelDebug, "Request answered"
	switch {
	case status >= http.StatusInternalServerError:
		level, text = slog.LevelWarn, "Request failed"
		span.SetStatus(codes.Error, "")
	case status >= http.StatusBadRequest:
		level, text = slog.LevelInfo, "Request refused"
	}
	span.End()
	s.metrics.requests.WithLabelValues(method, v.route, strconv.Itoa(status)).Inc()
	s.metrics.seconds.WithLabelValues(v.route).Observe(elapsed.Seconds())
	s.log.LogAttrs(ctx, level, text, slog.String("request_id", v.requestID), slog.String("method", method),
		slog.String("route", v.route), slog.Int("status", status), slog.Duration("duration", elapsed))
}

// knownMethod keeps methods that somebody made up out of names and labels.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "OTHER"
}

// answer remembers the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
