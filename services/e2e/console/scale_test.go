package console

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	manyAgents = 10_000
	// importBatch is the most that a call takes.
	importBatch = 1_000
	// maxElements bounds the document: a page of tiles, not all of them.
	maxElements = 1_500
	// maxBusy bounds how long the page may be deaf to a person, in ms: many times what
	// it takes, for two cores that run all tests at once are slow.
	maxBusy = 2_000
)

// The agents of a large account come in pages: the document stays small, and the
// page answers, whatever is searched, filtered or turned to.
func TestAgents_tenThousand(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Adam Admin", "ADMIN"))
	for first := 0; first < manyAgents; first += importBatch {
		var agents []object
		for i := first; i < first+importBatch; i++ {
			agents = append(agents, object{"email": fmt.Sprintf("agent%05d@acme.example", i), "displayName": fmt.Sprintf("Agent Number %05d", i), "role": "AGENT"})
		}
		s.call(http.MethodPost, "/v1/accounts/acme/agents:import", object{"agents": agents}, nil)
	}

	b := open(t, chromium(t), s.url)
	b.goTo("/profile")
	b.signIn("adam@acme.example")
	b.at("Adam Admin")
	b.eval(`(window.busy = [0], new PerformanceObserver(l => l.getEntries().forEach(e => window.busy.push(e.duration))).observe({type: 'longtask'}))`)
	took := func(what string, act func(), shown string) {
		began := time.Now()
		act()
		b.await(shown)
		t.Logf("%s: %v, %s elements, busy at most %s ms", what, time.Since(began).Round(time.Millisecond), b.eval(`document.querySelectorAll('*').length`), b.eval(`Math.round(Math.max(...window.busy))`))
		require.LessOrEqual(t, value[int](b, `document.querySelectorAll('*').length`), maxElements, what)
		require.LessOrEqual(t, value[float64](b, `Math.max(...window.busy)`), float64(maxBusy), what)
	}
	search := func(text string) func() {
		return func() { b.search(text) }
	}
	took("the first page", func() { b.click("Agents") }, `document.querySelectorAll('.tile').length === 60 && document.body.innerText.includes('1–60 of 10,002')`)
	took("the next page", func() { b.click("Next") }, `document.body.innerText.includes('61–120 of 10,002')`)
	took("a search", search("number 0777"), `document.querySelectorAll('.tile').length === 11`)
	took("a search for what most have", search("agent"), `document.body.innerText.includes('1–60 of 10,000')`)
	took("a filter", func() { b.tick("Set up") }, `document.body.innerText.includes('Nobody by that name')`)
	took("everybody again", func() { b.tick("Not set up"); search(" ")() }, `document.body.innerText.includes('1–60 of 10,002')`)
	took("twenty pages on", func() {
		for range 20 {
			b.click("Next")
			b.await(`!document.querySelector('[aria-busy]')`)
		}
	}, `document.body.innerText.includes('1,201–1,260 of 10,002')`)
	b.picture("agents-many")
}
