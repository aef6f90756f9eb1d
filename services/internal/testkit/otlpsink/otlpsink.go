// Package otlpsink is an OpenTelemetry collector for tests: it takes traces over
// OTLP/HTTP and keeps them.
package otlpsink

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it arrived.
type Span struct {
	Service, Name, TraceID, SpanID, ParentID string
	Attributes                               map[string]string
	// Links are the trace ids it is linked to.
	Links []string
	// Texts are what must be empty: descriptions of the status, and names of events.
	Texts []string
}

// Sink is a running collector.
type Sink struct {
	server *httptest.Server

	mu     sync.Mutex
	spans  []Span
	bodies [][]byte
}

// Start starts a collector that ends with the test.
func Start(tb testing.TB) *Sink {
	tb.Helper()
	s := &Sink{}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.take(r); err != nil {
			tb.Errorf("otlpsink: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // of an empty answer
	}))
	tb.Cleanup(s.server.Close)
	return s
}

// URL is what OTEL_EXPORTER_OTLP_ENDPOINT has to be.
func (s *Sink) URL() string { return s.server.URL }

// Spans returns what has arrived.
func (s *Sink) Spans() []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Span(nil), s.spans...)
}

// Bodies returns the requests that have arrived, as bytes.
func (s *Sink) Bodies() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.bodies...)
}

func (s *Sink) take(r *http.Request) error {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		in = unpacked
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, body)
	for _, resource := range request.GetResourceSpans() {
		service := textsOf(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				out := Span{
					Service: service, Name: span.GetName(), Attributes: textsOf(span.GetAttributes()),
					TraceID: hex.EncodeToString(span.GetTraceId()), SpanID: hex.EncodeToString(span.GetSpanId()),
					ParentID: hex.EncodeToString(span.GetParentSpanId()),
				}
				for _, link := range span.GetLinks() {
					out.Links = append(out.Links, hex.EncodeToString(link.GetTraceId()))
				}
				if text := span.GetStatus().GetMessage(); text != "" {
					out.Texts = append(out.Texts, text)
				}
				for _, event := range span.GetEvents() {
					out.Texts = append(out.Texts, event.GetName())
				}
				s.spans = append(s.spans, out)
			}
		}
	}
	return nil
}

func textsOf(attributes []*commonpb.KeyValue) map[string]string {
	texts := make(map[string]string, len(attributes))
	for _, a := range attributes {
		text := a.GetValue().GetStringValue()
		if text == "" {
			text = a.GetValue().String()
		}
		texts[a.GetKey()] = text
	}
	return texts
}
