package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/tracing"
)

// NewLogger returns the logger of a process. Lines logged with the context of a
// call carry its request id and trace; those with the context of work on an event
// its id and trace.
func NewLogger(w io.Writer, config *Config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if config.LogFormat == "json" {
		return slog.New(originHandler{slog.NewJSONHandler(w, options)}), nil
	}
	return slog.New(originHandler{slog.NewTextHandler(w, options)}), nil
}

// NewTracer returns what records the calls of a process, or nil when the
// configuration names no collector.
func NewTracer(ctx context.Context, name string, config *Config, log *slog.Logger) (*tracing.Tracer, error) {
	if config.OTELExporterOTLPEndpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is one that records nothing
	}
	return tracing.New(ctx, tracing.Options{Endpoint: config.OTELExporterOTLPEndpoint, Service: "twofold-" + name, Log: log, Now: time.Now})
}

func isLevel(text string) bool {
	switch strings.ToLower(text) {
	case "debug", "info", "warn", "error":
		return true
	}
	return false
}

// originHandler adds which call or event a line belongs to.
type originHandler struct{ slog.Handler }

func (h originHandler) Handle(ctx context.Context, record slog.Record) error {
	origin := tracing.LogAttrs(ctx)
	if id := authz.FromContext(ctx).RequestID; id != "" {
		origin = append(origin, slog.String("request_id", id))
	}
	if len(origin) > 0 {
		// What the line says itself stands; the same key must not be there twice.
		said := map[string]bool{}
		record.Attrs(func(attr slog.Attr) bool {
			said[attr.Key] = true
			return true
		})
		record = record.Clone()
		for _, attr := range origin {
			if !said[attr.Key] {
				record.AddAttrs(attr)
			}
		}
	}
	return h.Handler.Handle(ctx, record)
}

func (h originHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return originHandler{h.Handler.WithAttrs(attrs)}
}

func (h originHandler) WithGroup(name string) slog.Handler {
	return originHandler{h.Handler.WithGroup(name)}
}
