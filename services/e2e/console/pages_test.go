package console

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// axe returns the accessibility rules as a script.
func axe(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("axe", "node_modules", "axe-core", "axe.min.js"))
	// Whoever has no npm tests without it; CI does not.
	if os.IsNotExist(err) && os.Getenv("CI") == "" {
		t.Skip("axe-core is not installed: scripts/install-test-deps installs it where there is npm")
	}
	require.NoError(t, err)
	return string(content)
}

// tour looks at pages: as axe does, in both themes, and for whoever reads pictures.
type tour struct {
	*browser
	rules string
}

func (v tour) show(name string) {
	v.t.Helper()
	v.await(`!` + inDialog + `.querySelector('[aria-busy], .waiting')`)
	v.showNow(name)
}

// showNow shows a page as it is, be it still waiting.
func (v tour) showNow(name string) {
	v.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		v.look(1440, scheme)
		v.check(name + "-" + scheme)
	}
	v.look(360, "light")
	v.check(name + "-narrow")
	require.LessOrEqual(v.t, value[int](v.browser, "document.documentElement.scrollWidth"), 360, "the page %s is wider than a small phone", name)
	v.look(1440, "light")
}

// check lets axe look at the page, and keeps a picture. The tags are those of WCAG
// 2.2, A and AA, and axe's own best practices.
func (v tour) check(what string) {
	v.t.Helper()
	if value[bool](v.browser, `!window.axe`) {
		// The browser's own door lets the script in past the content policy.
		value[bool](v.browser, v.rules+"; true")
	}
	found := value[string](v.browser, `axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(
		r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target + ' ' + (n.any[0]?.message ?? '')).join(' | '))))`)
	var violations []string
	require.NoError(v.t, json.Unmarshal([]byte(found), &violations))
	require.Empty(v.t, strings.Join(violations, "\n"), what)
	v.picture(what)
}

// Every page, in every state that needs no luck to be seen.
func TestPages_lookRight(t *testing.T) {
	t.Parallel()
	rules := axe(t)
	s := start(t)
	s.account(
		person("Adam Admin", "ADMIN"), person("Agnes Agent", "AGENT"), person("Bruno Baker", "AGENT"), person("Carla Castro", "AGENT"),
		person("Dmitri Wolff-Engelhardt", "AGENT"), person("Eun-ji Park", "ADMIN"), person("Farid Haddad", "AGENT"), person("Grace Oyelaran", "AGENT"))
	root := chromium(t)
	admin, agent := tour{open(t, root, s.url), rules}, tour{open(t, root, s.url), rules}

	agent.goTo("/sign-in?account=acme")
	agent.show("sign-in")
	agent.goTo("/forgot-password")
	agent.show("forgot-password")
	agent.goTo("/accept-invitation?account=acme#token=x")
	agent.show("accept-invitation")
	agent.goTo("/profile")
	agent.signIn("bruno@acme.example")
	agent.at("Bruno Baker")
	agent.show("profile-empty")
	agent.goTo("/agents")
	agent.show("admins-only")

	admin.goTo("/manage/security")
	admin.signIn("adam@acme.example")
	admin.at("Security")
	admin.show("security-off")
	admin.goTo("/set-up?next=/manage/security")
	admin.at("Set up two-factor authentication")
	admin.show("set-up-scan")
	p := admin.scan()
	admin.click("Next")
	admin.fill("Six-digit code", p.wrong())
	admin.click("Confirm")
	admin.sees("This code is wrong")
	admin.show("set-up-code-wrong")
	admin.fill("Six-digit code", p.code())
	admin.click("Confirm")
	admin.at("Save your recovery codes")
	admin.show("set-up-codes")
	admin.tick("I have saved these codes")
	admin.click("Finish")
	admin.sees("Two-factor authentication is set up")
	admin.show("set-up-popup")
	admin.click("Continue")
	admin.at("Security")
	admin.tick("Enforce Two-Factor Authentication")
	admin.click("Save")
	admin.sees("Nobody is signed out now.")
	admin.show("security-preview")
	admin.click("Enforce it")
	admin.await(`[...document.querySelectorAll('.figure')].some(f => f.innerText.replace(/\s+/g, ' ') === 'Mails sent 8')`)
	admin.await(`!document.querySelector('.toast')`)
	admin.show("security-on")

	agent.goTo("/profile")
	agent.sees("This session ends on")
	agent.show("profile-banner")
	agent.click("Sign out")
	agent.signIn("agnes@acme.example")
	agent.at("Set up two-factor authentication")
	agent.show("set-up-forced")
	agent.setUp()
	agent.at("Agnes Agent")
	agent.show("profile")
	agent.click("Sign out")
	agent.signIn("agnes@acme.example")
	agent.at("Two-factor authentication")
	agent.show("second-factor")

	admin.goTo("/agents")
	admin.show("agents")
	admin.click("Add an agent")
	admin.show("agents-add")
	admin.click("Cancel")
	admin.clickOn(tile("Bruno Baker"))
	admin.at("Bruno Baker")
	admin.show("agent")
	admin.click("Reset Two-Factor Authentication")
	admin.show("agent-reset")
	admin.click("Cancel")
	admin.goTo("/agents/import")
	admin.show("import")
	admin.goTo("/notices")
	admin.show("notices")
	admin.goTo("/activity")
	admin.sees("Set up two-factor authentication")
	admin.show("activity")
	admin.click("Export as CSV")
	admin.await(`!` + named("Export as CSV") + `.disabled`)
	require.Equal(t, "0", admin.eval(`document.querySelectorAll('.toast.bad').length`))
	admin.goTo("/profile")
	admin.show("profile-admin")
	admin.goTo("/nowhere/at/all")
	admin.show("not-found")

	admin.run(navigate(s.url + "/inbox"))
	admin.show("inbox")
	admin.run(navigate(s.url + "/inbox?to=nobody@acme.example"))
	admin.sees("No mails to nobody@acme.example yet.")
	admin.show("inbox-empty")
	admin.run(navigate(s.url + "/inbox?to=bruno@acme.example"))
	admin.clickOn(`document.querySelector('.mails a')`)
	admin.await(`document.querySelector('h1')`)
	admin.show("inbox-mail")
}

// How pages wait, what they say when there is nothing, and when something is wrong.
func TestPages_lookRightInTrouble(t *testing.T) {
	t.Parallel()
	rules := axe(t)
	s := start(t)
	long := object{
		"displayName": "Hubert Wolfeschlegelsteinhausenbergerdorffwelchevoralternwarengewissenhaft",
		"email":       "wolfeschlegelsteinhausenbergerdorffwelchevoralternwaren@acme.example", "role": "AGENT", "password": password,
	}
	s.account(person("Adam Admin", "ADMIN"), long)
	line := s.slow()
	b := tour{open(t, chromium(t), line.url), rules}

	b.goTo("/set-up")
	b.signIn("adam@acme.example")
	b.at("Set up two-factor authentication")
	b.run(reload)
	b.sees("The earlier one is void")
	b.show("set-up-again")
	p := b.scan()
	b.click("Next")
	b.fill("Six-digit code", p.code())
	b.click("Confirm")
	b.at("Save your recovery codes")
	b.run(reload)
	b.sees("Your recovery codes were shown once")
	b.show("set-up-codes-gone")

	line.hold("/v1/accounts/acme/agents")
	b.run(navigate(line.url + "/agents"))
	b.sees("Loading…")
	b.showNow("agents-waiting")
	line.hold()
	for range 4 { // the list and three counts
		line.next("/v1/accounts/acme/agents").release()
	}
	b.at("Agents")
	b.search("zzz")
	b.sees("Nobody by that name")
	b.show("agents-nobody")
	b.goTo("/agents?mfa=NOT_SET_UP")
	b.clickOn(tile("Olivia Owner"))
	b.sees("No mails so far")
	b.sees("Never")
	b.show("agent-new")
	b.goTo("/agents?q=hubert")
	b.await(`document.querySelectorAll('.tile').length === 1`)
	b.show("agents-long-name")
	b.clickOn(`document.querySelector('.tile')`)
	b.sees("No mails so far")
	b.show("agent-long-name")
	b.click("Reset Two-Factor Authentication")
	b.show("agent-long-name-reset")
	b.click("Cancel")
	b.goTo("/notices?state=FAILED")
	b.sees("None of these")
	b.show("notices-none")

	b.offline(true)
	b.click("Agents")
	b.sees("Twofold cannot be reached")
	b.show("gateway-gone")
	b.offline(false)
	b.click("Try again")
	b.at("Agents")
	b.offline(true)
	b.search("a")
	b.sees("Try again")
	b.show("agents-gone")
	b.offline(false)
	b.click("Try again")
	b.await(`document.querySelector('.tile')`)
	require.Equal(t, "true", b.eval(`document.activeElement !== document.body`), "the focus stays")

	b.goTo("/manage/security")
	b.fill("Amount", "2")
	s.enforce()
	b.click("Save")
	b.sees("changed this while you were editing")
	b.show("security-conflict")
	b.click("Take theirs")
	b.sees("1 of 3 agents set up")
	line.hold("/v1/accounts/acme/rollout:watch")
	line.cut()
	b.sees("Connection lost, trying again…")
	b.showNow("security-connection-lost")
	again := line.next("/v1/accounts/acme/rollout:watch")
	line.hold()
	again.refuse(t, "DEPENDENCY_UNAVAILABLE") // it goes on trying
	b.await(`document.querySelector('.live')?.textContent === 'Live'`)
	b.tick("Enforce Two-Factor Authentication")
	b.click("Save")
	b.sees("Stop enforcing two-factor authentication?")
	b.show("security-off-preview")
	b.click("Cancel")

	s.call(http.MethodPost, "/v1/"+s.agent("adam")+"/sessions:revokeAll", object{}, nil)
	b.run(reload)
	b.at("Sign in")
	b.sees("This session was ended on another device")
	b.show("sign-in-ended")
	b.signIn("adam@acme.example")
	b.at("Two-factor authentication")
	b.forget("__Host-twofold-signin")
	b.fill("Six-digit code", p.code())
	b.click("Continue")
	b.sees("That sign-in took too long")
	b.show("sign-in-expired")
	b.fill("Password", "wrong")
	b.click("Sign in")
	b.sees("Account, email address or password is wrong.")
	b.show("sign-in-wrong")
}
