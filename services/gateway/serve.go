package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/twofold-auth/twofold/gen/openapi"
	"github.com/twofold-auth/twofold/services/gateway/console"
)

const (
	readHeaderTimeout = 5 * time.Second
	// readTimeout and writeTimeout bound what a slow caller can hold. A stream is
	// let out of both (letStream).
	readTimeout  = 30 * time.Second
	writeTimeout = importTimeout + time.Minute
	idleTimeout  = 2 * time.Minute
	maxHeader    = 32 << 10
	readyTimeout = 2 * time.Second
)

// Unready makes /readyz say that callers should go elsewhere. Calls are served as
// before.
func (s *Service) Unready() { s.unready.Store(true) }

// Serve serves REST on a listener until ctx ends, and closes it. Watching calls end
// then, and others may finish for Config.StopTimeout.
func (s *Service) Serve(ctx context.Context, listener net.Listener) error {
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	server := s.server(calls)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("gateway: serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTimeout)
	defer cancel()
	s.rollout.EndWatches()
	if err := server.Shutdown(stopCtx); err != nil {
		endCalls()
		return fmt.Errorf("gateway: stop: %w", errors.Join(err, server.Close()))
	}
	return nil
}

// server returns a server whose calls end with ctx at the latest.
func (s *Service) server(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}

// pages returns everything that is served: the API, what programs ask of a server,
// further pages and, unless one of them takes its place, the console.
func (s *Service) pages(api http.Handler, more map[string]http.Handler) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/v1/", api)
	mux.HandleFunc("GET /openapi.json", serveOpenAPI)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.serveReady)
	for path, page := range more {
		mux.Handle(path, page)
	}
	if _, taken := more["/"]; !taken {
		page, err := console.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.refuseAs(w, r, errNoRoute, http.StatusNotFound)
		}))
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		mux.Handle("/", page)
	}
	return mux, nil
}

func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(openapi.JSON))
}

// Ready returns nil when every part can do its work.
func (s *Service) Ready(ctx context.Context) error {
	var problems []error
	for name, err := range s.check(ctx) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// check asks all parts at once, so that one that does not answer leaves the others
// their time.
func (s *Service) check(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		results = make(map[string]error, len(s.ready))
	)
	for name, ready := range s.ready {
		wg.Go(func() {
			err := ready(ctx)
			mu.Lock()
			defer mu.Unlock()
			results[name] = err
		})
	}
	wg.Wait()
	return results
}

// serveReady answers 200 when every part can do its work, and otherwise 503 with
// the parts that cannot. Why they cannot is in the log.
func (s *Service) serveReady(w http.ResponseWriter, r *http.Request) {
	if s.unready.Load() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"process": "stopping"})
		return
	}
	httpStatus := http.StatusOK
	parts := make(map[string]string, len(s.ready))
	for name, err := range s.check(r.Context()) {
		parts[name] = "ok"
		if err != nil {
			s.log.WarnContext(r.Context(), "Not ready", "part", name, "error", err)
			httpStatus, parts[name] = http.StatusServiceUnavailable, "unavailable"
		}
	}
	writeJSON(w, httpStatus, parts)
}

func writeJSON(w http.ResponseWriter, httpStatus int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone, or gets it
}
