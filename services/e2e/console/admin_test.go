package console

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// Two admins change the policy at once: the second one is told, loses nothing, and
// decides.
func TestSecurity_twoAdminsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Adam Admin", "ADMIN"), person("Anna Admin", "ADMIN"))
	s.enforce()
	root := chromium(t)
	adam, anna := open(t, root, s.url), open(t, root, s.url)
	for b, email := range map[*browser]string{adam: "adam@acme.example", anna: "anna@acme.example"} {
		b.goTo("/manage/security")
		b.signIn(email)
		b.setUp()
		b.at("Security")
	}
	anna.fill("Amount", "3")
	anna.click("Save")
	anna.sees("Change the terms?")
	adam.fill("Amount", "5")
	adam.click("Save")
	adam.click("Save the change")
	adam.sees("Saved.")
	anna.click("Save the change")
	anna.sees("Adam Admin changed this while you were editing")
	anna.sees("Enforced, grace period 5 days")
	anna.sees("Yours, not saved: Enforced, grace period 3 days.")
	anna.click("Save mine instead")
	anna.click("Save the change")
	anna.sees("Saved.")
	adam.await(labeled("Amount") + `.value === '3'`)

	// Switching off asks, and says what stops.
	adam.tick("Enforce Two-Factor Authentication")
	adam.click("Save")
	adam.sees("Stop enforcing two-factor authentication?")
	adam.sees("Agents who have a second factor keep it")
	adam.click("Stop enforcing")
	adam.sees("Two-factor authentication is not enforced.")
}

// A mail server that is down is no reason to worry, and the page says so.
func TestSecurity_mailServerDown(t *testing.T) {
	t.Parallel()
	// An address at which nobody answers, and nobody else will.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	s := start(t, "TWOFOLD_SMTP_URL=smtp://"+listener.Addr().String(), "TWOFOLD_MAIL_FROM=Twofold <no-reply@acme.example>")
	s.account(person("Adam Admin", "ADMIN"))
	b := tour{open(t, chromium(t), s.url), axe(t)}
	b.goTo("/manage/security")
	b.signIn("adam@acme.example")
	b.at("Security")
	s.enforce()
	b.sees("The mail server does not take mails at the moment")
	b.sees("This session ends on")
	b.show("security-mail-server-down")
	b.goTo("/notices")
	b.sees("next attempt")
	b.show("notices-trying-again")
}

// The keyboard alone signs in and requires two-factor authentication of everybody.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Adam Admin", "ADMIN"))
	b := open(t, chromium(t), s.url)
	b.goTo("/manage/security")
	b.at("Sign in")
	b.await(`document.activeElement === ` + labeled("Account"))
	b.run(chromedp.KeyEvent("acme" + kb.Tab + "adam@acme.example" + kb.Tab + password + kb.Tab + " " + kb.Enter))
	b.at("Security")
	b.await(`document.activeElement === document.querySelector('h1')`)
	b.tabTo(labeled("Enforce Two-Factor Authentication"))
	b.run(chromedp.KeyEvent(" "))
	b.tabTo(named("Save"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.sees("Set up your own second factor first")
	b.tabTo(named("Set up now"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.at("Set up two-factor authentication")
	p := b.scan()
	b.tabTo(named("Next"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.at("Type the code from your app")
	b.await(`document.activeElement === ` + labeled("Six-digit code"))
	b.run(chromedp.KeyEvent(p.code() + kb.Enter))
	b.at("Save your recovery codes")
	b.tabTo(labeled("I have saved these codes"))
	b.run(chromedp.KeyEvent(" "))
	b.tabTo(named("Finish"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.sees("From now on you sign in with")
	b.tabTo(named("Continue"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.at("Security")
	b.sees("Not saved yet")
	b.tabTo(named("Save"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.sees("Nobody is signed out now.")
	b.tabTo(named("Enforce it"))
	b.run(chromedp.KeyEvent(kb.Enter))
	b.sees("Saved. Two-factor authentication is enforced.")
	b.await(`!document.body.innerText.includes('Not saved yet')`)
	b.await(`document.activeElement === ` + named("Save"))
}

// Many agents come in pages; a CSV file is answered line by line.
func TestAgents_manyAndImport(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Adam Admin", "ADMIN"))
	file := "email,name,role\n\n"
	for i := range 130 {
		file += "agent" + number(i) + "@acme.example,\"Agent, No. " + number(i) + "\",agent\n"
	}
	file += "adam@acme.example,Adam Again,agent\nbad,Bad Address,agent\nx@acme.example,X,king\n"
	path := filepath.Join(t.TempDir(), "agents.csv")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))

	b := open(t, chromium(t), s.url)
	b.goTo("/agents/import")
	b.signIn("adam@acme.example")
	b.at("Import agents")
	b.run(chromedp.SetUploadFiles("input[type=file]", []string{path}))
	b.tick("Send an invitation")
	b.click("Import")
	b.sees("133 lines of 133: 130 added, 3 not.")
	b.sees("An agent of this account has this email address.")
	b.sees("“KING” is no role")
	require.Equal(t, "135", b.eval(`document.querySelector('tbody tr:last-child td').textContent`), "lines are counted as in the file")

	b.click("Agents")
	b.at("Agents")
	b.sees("1–60 of 132")
	b.click("Next")
	b.sees("61–120 of 132")
	b.clickOn(`document.querySelector('.tile')`)
	b.at("Agent, No. 059")
	b.run(chromedp.NavigateBack())
	b.sees("61–120 of 132")
	b.click("Next")
	b.sees("121–132 of 132")
	b.await(`document.activeElement === `+named("Previous"), "the focus goes on when there is no next page")
	b.click("Previous")
	b.sees("61–120 of 132")
	b.click("Previous")
	b.sees("1–60 of 132")
	b.search("No. 077")
	b.await(`document.querySelectorAll('.tile').length === 1`)
	require.Contains(t, b.eval(`document.querySelector('.tile').innerText`), "Agent, No. 077")
	b.await(`[...document.querySelectorAll('[role=status]')].some(e => e.textContent === '1 agent')`, "how many there are is said")
	b.search("zzz")
	b.sees("Nobody by that name")

	// The keyboard alone: the focus goes into the dialog, stays, and comes back.
	b.eval(named("Add an agent") + `.focus()`)
	b.run(chromedp.KeyEvent(kb.Enter))
	b.await(`document.activeElement === ` + labeled("Name"))
	for range 12 {
		b.run(chromedp.KeyEvent(kb.Tab))
		require.NotEqual(t, "false", b.eval(`document.activeElement === document.body || document.activeElement.closest('dialog') !== null`))
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.await(`!document.querySelector('dialog') && document.activeElement === ` + named("Add an agent"))

	b.click("Add an agent")
	b.fill("Name", "Nora New")
	b.fill("Email address", "adam@acme.example")
	b.click("Add")
	b.sees("An agent of this account has this email address already.")
	b.fill("Email address", "nora@acme.example")
	b.click("Add")
	b.sees("Nora New is invited by mail.")
	s.awaitMail("nora@acme.example", "INVITATION")
}

// A session that an admin ends says so on its next step; a gateway that is gone is
// waited for.
func TestSession_endedElsewhere(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	root := chromium(t)
	one, two := open(t, root, s.url), open(t, root, s.url)
	for _, b := range []*browser{one, two} {
		b.goTo("/profile")
		b.signIn("agnes@acme.example")
		b.at("Agnes Agent")
	}
	two.click("Sign out all others")
	two.click("Sign out the others")
	two.sees("1 other device signed out.")
	one.run(reload)
	one.at("Sign in")
	one.sees("This session was ended on another device")

	two.offline(true)
	two.click("Set up")
	two.sees("Twofold cannot be reached")
	two.offline(false)
	two.click("Try again")
	two.at("Set up two-factor authentication")
}

// Tabs share their cookies: when somebody else signs in in one, the others show
// nothing of the one before as soon as they are touched.
func TestSession_somebodyElseInAnotherTab(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"), person("Bruno Baker", "AGENT"))
	b := open(t, chromium(t), s.url)
	b.goTo("/profile")
	b.signIn("agnes@acme.example")
	b.at("Agnes Agent")
	b.run(reload) // a page that was just loaded asks who is signed in when it is touched
	b.at("Agnes Agent")
	require.Equal(t, 200, value[int](b, `fetch('/v1/signIn', { method: 'POST', headers: { 'Twofold-Session': 'cookie', 'Content-Type': 'application/json' },
		body: JSON.stringify({ account: 'acme', email: 'bruno@acme.example', password: `+quoted(password)+`, client: 'WEB' }) }).then(r => r.status)`))
	b.eval(`dispatchEvent(new Event('focus'))`)
	b.at("Bruno Baker")
}

// The page is the same wherever it is asked for, and strict about what it loads.
func TestPage_headers(t *testing.T) {
	t.Parallel()
	s := start(t)
	for path, status := range map[string]int{
		"/": 200, "/sign-in": 200, "/manage/security": 200, "/agents/x": 200, "/console/main.js": 200, "/console/nothing.js": 404, "/nowhere": 404,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		require.NoError(t, err)
		request.Header.Set("Accept", "text/html")
		response, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, path)
		if path != "/console/nothing.js" {
			policy := response.Header.Get("Content-Security-Policy")
			require.Contains(t, policy, "default-src 'none'")
			require.NotContains(t, policy, "unsafe")
		}
	}
}
