package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowLine stands between browsers and the suite, and holds what a test wants held:
// requests as they were sent, cookies included.
type slowLine struct {
	t       *testing.T
	url     string
	cut     func() // cuts every connection
	onward  http.Handler
	waiting chan *heldCall

	mu    sync.Mutex
	holds map[string]bool
}

// heldCall is one request on the line.
type heldCall struct {
	path    string
	pass    chan struct{} // closed: on to the suite
	reached chan struct{} // closed by the line: the suite has answered
	answer  chan struct{} // closed: the answer may go back
	refusal []byte        // answers in the suite's place
}

// slow returns a line to the suite.
func (s *suite) slow() *slowLine {
	s.t.Helper()
	target, err := url.Parse(s.url)
	require.NoError(s.t, err)
	onward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		FlushInterval: -1,
		// Browsers turn away from requests; that is what some tests are about.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	l := &slowLine{t: s.t, onward: onward, waiting: make(chan *heldCall, 100), holds: map[string]bool{}}
	server := httptest.NewServer(l)
	s.t.Cleanup(server.CloseClientConnections)
	l.url, l.cut = server.URL, server.CloseClientConnections
	return l
}

// hold holds requests to some paths from now on, and no others.
func (l *slowLine) hold(paths ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds = map[string]bool{}
	for _, path := range paths {
		l.holds[path] = true
	}
}

func (l *slowLine) isHeld(path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds[path]
}

func (l *slowLine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.isHeld(r.URL.Path) {
		l.onward.ServeHTTP(w, r)
		return
	}
	c := &heldCall{path: r.URL.Path, pass: make(chan struct{}), reached: make(chan struct{}), answer: make(chan struct{})}
	l.waiting <- c
	for _, gate := range []chan struct{}{c.pass, c.answer} {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
		if gate == c.pass && c.refusal == nil {
			kept := httptest.NewRecorder()
			l.onward.ServeHTTP(kept, r)
			close(c.reached)
			defer func() {
				for name, values := range kept.Header() {
					w.Header()[name] = values
				}
				w.WriteHeader(kept.Code)
				_, _ = w.Write(kept.Body.Bytes()) // the browser may be gone
			}()
		}
	}
	if c.refusal != nil {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(c.refusal)
	}
}

// next returns the next request that is held.
func (l *slowLine) next(path string) *heldCall {
	l.t.Helper()
	select {
	case c := <-l.waiting:
		require.Equal(l.t, path, c.path)
		return c
	case <-time.After(patience):
		require.Fail(l.t, "the page does not ask", path)
		return nil
	}
}

// reach lets the suite answer, and still holds the answer.
func (c *heldCall) reach() {
	close(c.pass)
	<-c.reached
}

// release lets a request and its answer go.
func (c *heldCall) release() {
	close(c.pass)
	close(c.answer)
}

// refuse answers in the suite's place.
func (c *heldCall) refuse(t *testing.T, reason string) {
	t.Helper()
	var err error
	c.refusal, err = json.Marshal(object{"message": reason, "details": []object{{"reason": reason, "domain": "twofold"}}})
	require.NoError(t, err)
	c.release()
}
