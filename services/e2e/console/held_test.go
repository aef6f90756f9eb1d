package console

import (
	"encoding/json"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// held are requests that the browser waits with until the test lets them go.
type held struct {
	b       *browser
	waiting chan *fetch.EventRequestPaused
}

// hold makes the browser wait with every request to some paths, from now on.
func (b *browser) hold(paths ...string) held {
	b.t.Helper()
	h := held{b: b, waiting: make(chan *fetch.EventRequestPaused, 100)}
	require.NoError(b.t, chromedp.Listen(b.ctx, func(event any) {
		if e, ok := event.(*fetch.EventRequestPaused); ok {
			h.waiting <- e
		}
	}))
	var patterns []*fetch.RequestPattern
	for _, path := range paths {
		patterns = append(patterns, &fetch.RequestPattern{URLPattern: b.baseURL + path})
	}
	_, err := chromedp.Call(b.ctx, fetch.Enable, fetch.EnableParams{Patterns: patterns})
	require.NoError(b.t, err)
	return h
}

// next returns the next request that waits, or its answer if that was to be held.
func (h held) next(path string) *fetch.EventRequestPaused {
	h.b.t.Helper()
	select {
	case e := <-h.waiting:
		require.Equal(h.b.t, h.b.baseURL+path, e.Request.URL)
		return e
	case <-time.After(patience):
		require.Fail(h.b.t, "the page does not ask for "+path)
		return nil
	}
}

// release lets a request go on, and holds its answer if told to. What the page has
// given up meanwhile is gone.
func (h held) release(e *fetch.EventRequestPaused, holdAnswer bool) {
	h.b.t.Helper()
	_, err := chromedp.Call(h.b.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID, InterceptResponse: &holdAnswer})
	if err != nil {
		require.ErrorContains(h.b.t, err, "Invalid InterceptionId")
	}
}

// answer answers a request in the API's place, with a refusal.
func (h held) answer(e *fetch.EventRequestPaused, status int64, reason string) {
	h.b.t.Helper()
	body, err := json.Marshal(object{"message": reason, "details": []object{{"reason": reason, "domain": "twofold"}}})
	require.NoError(h.b.t, err)
	_, err = chromedp.Call(h.b.ctx, fetch.FulfillRequest, fetch.FulfillRequestParams{RequestID: e.RequestID, ResponseCode: status, Body: body})
	require.NoError(h.b.t, err)
}

// stop lets everything go.
func (h held) stop() {
	h.b.t.Helper()
	_, err := chromedp.Call(h.b.ctx, fetch.Disable, cdp.Empty{})
	require.NoError(h.b.t, err)
}
