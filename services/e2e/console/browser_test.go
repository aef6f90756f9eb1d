package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit"
)

// patience is how long a page may take to show what is waited for; two cores that
// run all tests at once are slow.
const patience = 30 * time.Second

// browser is one person's browser: cookies and pages of its own.
type browser struct {
	t       *testing.T
	ctx     context.Context
	baseURL string
	mu      sync.Mutex
	// complaints are errors of scripts and refusals of the content policy.
	complaints []string
	requests   int
}

// chromium starts the program once for a test. Without it the test is skipped.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil && testkit.Strict() {
		t.Fatal("chromium is not installed; `make test` installs it")
	} else if err != nil {
		t.Skip("SKIPPED, NOT TESTED: chromium is not installed; `make test` installs it and runs this test")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	root, cancelRoot := chromedp.NewContext(ctx)
	require.NoError(t, chromedp.Do(root))
	t.Cleanup(func() {
		_ = chromedp.Cancel(root)
		cancelRoot()
		cancel()
	})
	return root
}

// open makes a new browser of a person, as wide as a laptop.
//
//nolint:contextcheck // a browser has its own context, which outlives the calls
func open(t *testing.T, root context.Context, baseURL string) *browser {
	t.Helper()
	b := &browser{t: t, baseURL: baseURL}
	ctx, cancel := chromedp.NewContext(root, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.listen))
	t.Cleanup(cancel)
	b.ctx = ctx
	require.NoError(t, chromedp.Do(ctx))
	b.run(chromedp.EmulateViewport(1440, 900))
	t.Cleanup(func() {
		if t.Failed() {
			b.picture("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
			t.Logf("the page at the end: %s\n%s", b.eval("location.href"), b.eval("document.body.innerText"))
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.complaints, "the browser's console")
		require.True(t, t.Failed() || b.requests > 0, "nobody listened")
	})
	return b
}

// listen hears what the browser complains of: errors of scripts, and what the
// content policy refused. Answers of the API that refuse something are no such
// thing; a browser says of each that a resource failed to load.
func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complain(fmt.Sprintf("%s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type != runtime.ConsoleAPICalledTypeError {
			return
		}
		var said []string
		for _, arg := range e.Args {
			said = append(said, string(arg.Value)+arg.Description)
		}
		b.complain(strings.Join(said, " "))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.complain(e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		b.mu.Lock()
		b.requests++
		b.mu.Unlock()
		if to := e.Request.URL; !strings.HasPrefix(to, b.baseURL+"/") && !strings.HasPrefix(to, "data:") && !strings.HasPrefix(to, "blob:") {
			b.complain("a request to " + to)
		}
	case *page.EventJavascriptDialogOpening:
		// "Leave this page?": yes. This goroutine reads the answer, so another asks.
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// eval returns what an expression is in the page, as text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	return value[string](b, "String("+expression+")")
}

func value[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return got
}

// await waits until an expression holds in the page.
func (b *browser) await(expression string, what ...string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		defer cancel()
		// While the page is being loaded there is nothing to ask.
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		return err == nil && yes
	}, patience, 50*time.Millisecond, strings.Join(append(what, expression), ": "))
}

func quoted(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// goTo opens a page, and waits until it is there.
func (b *browser) goTo(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.baseURL + path))
	b.await(`document.querySelector('h1')`)
}

// sees waits until a text can be seen.
func (b *browser) sees(text string) {
	b.t.Helper()
	b.await(`document.body.innerText.includes(` + quoted(text) + `)`)
}

// at waits for a page by its headline.
func (b *browser) at(headline string) {
	b.t.Helper()
	b.await(`[...document.querySelectorAll('h1')].some(h => h.textContent === ` + quoted(headline) + `)`)
}

// inDialog is where controls are looked for: in the dialog on top, if there is one.
const inDialog = `([...document.querySelectorAll('dialog[open]')].at(-1) ?? document)`

// labeled is the control with a label.
func labeled(label string) string {
	return `[...` + inDialog + `.querySelectorAll('label')].find(l => l.textContent.trim().startsWith(` + quoted(label) + `))?.control`
}

// named is the button or link with a name.
func named(name string) string {
	return `[...` + inDialog + `.querySelectorAll('button, a, summary')].find(b => b.offsetParent !== null && ((b.getAttribute('aria-label') ?? b.innerText).trim() === ` + quoted(name) + `))`
}

// fill types into the field with a label, in place of what was there.
func (b *browser) fill(label, text string) {
	b.t.Helper()
	b.await(labeled(label), "field "+label)
	b.eval(`(` + labeled(label) + `.focus(), ` + labeled(label) + `.select?.())`)
	b.run(chromedp.KeyEvent(text))
	if b.eval(labeled(label)+`.type`) != "number" {
		b.await(labeled(label) + `.value.length > 0`)
	}
}

// tick clicks the control with a label.
func (b *browser) tick(label string) {
	b.t.Helper()
	b.clickOn(labeled(label))
}

// click clicks the button or link with a name.
func (b *browser) click(name string) {
	b.t.Helper()
	b.clickOn(named(name))
}

// clickOn clicks where an element is, as a mouse does.
func (b *browser) clickOn(element string) {
	b.t.Helper()
	b.await(`(` + element + `) && !(` + element + `).disabled && !(` + element + `).closest('[aria-busy]')`)
	at := value[[]float64](b, `(() => { const e = `+element+`; e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`)
	b.run(chromedp.MouseClickXY(at[0], at[1]))
}

// look sets how wide the page is and in which colors it comes.
func (b *browser) look(width int64, scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(b.t, err)
	b.run(chromedp.EmulateViewport(width, 900))
}

// picturesDir is where pictures of pages go; it is not committed.
func picturesDir() string { return filepath.Join("..", "..", "..", ".build", "pictures") }

// picture keeps what the page looks like.
func (b *browser) picture(name string) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	content, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Logf("no picture of %s: %v", name, err)
		return
	}
	require.NoError(b.t, os.MkdirAll(picturesDir(), 0o750))
	require.NoError(b.t, os.WriteFile(filepath.Join(picturesDir(), name+".png"), content, 0o600))
}

// reload loads the page again.
func reload(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
	return chromedp.Reload()(ctx, t)
}

func navigate(to string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(to) }

// choose takes an option of the field with a label.
func (b *browser) choose(label, value string) {
	b.t.Helper()
	b.await(labeled(label))
	b.eval(`(e => { e.value = ` + quoted(value) + `; e.dispatchEvent(new Event('change', {bubbles: true})); })(` + labeled(label) + `)`)
}

// search types into the field for a search, in place of what was there.
func (b *browser) search(text string) {
	b.t.Helper()
	b.eval(`(e => { e.focus(); e.select(); })(document.querySelector('input[type=search]'))`)
	b.run(chromedp.KeyEvent(text))
}

// tabTo goes from control to control until an element has the focus, and sees it at
// each of them.
func (b *browser) tabTo(element string) {
	b.t.Helper()
	b.await(element)
	for range 40 {
		if b.eval(`document.activeElement === `+element) == "true" {
			return
		}
		b.run(chromedp.KeyEvent(kb.Tab))
		require.Equal(b.t, "true", b.eval(`(a => a === document.body || getComputedStyle(a.closest('.choices label') ?? a).outlineStyle !== 'none')(document.activeElement)`), "the focus is seen")
	}
	require.Fail(b.t, "the keyboard does not reach "+element)
}

// paste puts a text into the field with a label as the clipboard does: at once.
func (b *browser) paste(label, text string) {
	b.t.Helper()
	b.eval(`(e => { e.focus(); e.select(); })(` + labeled(label) + `)`)
	_, err := chromedp.Call(b.ctx, input.InsertText, input.InsertTextParams{Text: text})
	require.NoError(b.t, err)
}

// offline cuts the browser off, or connects it again.
func (b *browser) offline(yes bool) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: yes, DownloadThroughput: -1, UploadThroughput: -1}},
	})
	require.NoError(b.t, err)
}

// forget drops a cookie, as browsers do when its time is over.
func (b *browser) forget(cookie string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, network.DeleteCookies, network.DeleteCookiesParams{Name: cookie, URL: b.baseURL})
	require.NoError(b.t, err)
}

// tile is an agent's tile, tileWarning the symbol on it with its text.
func tile(name string) string {
	return `[...document.querySelectorAll('.tile')].find(t => t.querySelector('strong').textContent === ` + quoted(name) + `)`
}

func tileWarning(name string) string {
	return `(` + tile(name) + `?.querySelector('.tile-warning')?.textContent === 'Two-Factor Authentication not setup')`
}
