package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/twofold-auth/twofold/services/internal/authz"
)

// NewLogger returns the logger of a process. Lines logged with the context of a
// call carry its request id.
func NewLogger(w io.Writer, config *Config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if config.LogFormat == "json" {
		return slog.New(requestIDHandler{slog.NewJSONHandler(w, options)}), nil
	}
	return slog.New(requestIDHandler{slog.NewTextHandler(w, options)}), nil
}

func isLevel(text string) bool {
	switch strings.ToLower(text) {
	case "debug", "info", "warn", "error":
		return true
	}
	return false
}

// requestIDHandler adds the request id of the call a line belongs to.
type requestIDHandler struct{ slog.Handler }

func (h requestIDHandler) Handle(ctx context.Context, record slog.Record) error {
	if id := authz.FromContext(ctx).RequestID; id != "" {
		record = record.Clone()
		record.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, record)
}

func (h requestIDHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestIDHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestIDHandler) WithGroup(name string) slog.Handler {
	return requestIDHandler{h.Handler.WithGroup(name)}
}
