package console

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// enforce requires two-factor authentication of an account, as the operator.
func (s *suite) enforce() {
	s.t.Helper()
	s.call(http.MethodPatch, "/v1/accounts/acme/mfaPolicy", object{"enforced": true, "gracePeriod": "604800s"}, nil)
}

// A reload in mid set-up begins a new one and says that the earlier picture is
// void; the back button loses neither the picture nor the way; three wrong codes keep the way open.
func TestSetUp_reloadAndWrongCodes(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	s.enforce()
	b := open(t, chromium(t), s.url)
	b.goTo("/sign-in?account=acme")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	first := b.scan()
	b.run(reload)
	b.sees("The earlier one is void")
	p := b.scan()
	require.NotEqual(t, first.secret, p.secret)
	b.run(chromedp.NavigateBack())
	b.at("Sign in")
	b.sees("You have begun to sign in to acme as agnes@acme.example.")
	b.click("Go on")
	b.at("Set up two-factor authentication")
	require.Equal(t, p.secret, b.scan().secret, "leaving and going on keeps the picture")

	b.click("Next")
	b.at("Type the code from your app")
	b.click("Back")
	b.at("Set up two-factor authentication")
	require.Equal(t, p.secret, b.scan().secret, "going back keeps the picture")
	b.click("Next")
	b.at("Type the code from your app")
	b.fill("Six-digit code", first.code())
	b.click("Confirm")
	b.sees("This code is wrong")
	for range 2 {
		b.fill("Six-digit code", p.wrong())
		b.await(`!document.body.innerText.includes('This code is wrong')`)
		b.click("Confirm")
		b.sees("This code is wrong")
		b.await(`document.activeElement === `+labeled("Six-digit code"), "the focus is where to type again")
	}
	b.paste("Six-digit code", "Your Twofold code is "+p.code()[:3]+" "+p.last[3:]+".")
	b.click("Confirm")
	b.finishSetUp()
	b.at("Agnes Agent")

	// Signing in asks for a code from now on; wrong ones do not lock anybody out.
	b.click("Sign out")
	b.signIn("agnes@acme.example")
	b.at("Two-factor authentication")
	for range 3 {
		b.fill("Six-digit code", p.wrong())
		b.click("Continue")
		b.sees("This code is wrong")
	}
	b.run(reload)
	b.at("Two-factor authentication")
	b.fill("Six-digit code", p.code())
	b.click("Continue")
	b.at("Agnes Agent")
}

// Recovery codes are shown once: a reload before they are saved says so.
func TestSetUp_recoveryCodes(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	b := open(t, chromium(t), s.url)
	b.goTo("/set-up")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	p := b.scan()
	b.click("Next")
	b.fill("Six-digit code", p.code())
	b.click("Confirm")
	b.at("Save your recovery codes")
	recovery := b.eval(`document.querySelector('.codes code').textContent`)
	b.run(reload)
	b.sees("Your recovery codes were shown once")
	b.click("Go to your profile")
	b.sees("10 codes left of 10")

	b.click("Sign out")
	b.signIn("agnes@acme.example")
	b.click("Use a recovery code instead")
	b.fill("Recovery code", recovery)
	b.click("Continue")
	b.at("Agnes Agent")
	b.sees("9 codes left of 10")

	// New codes and a new password need a code of now, unless one was just given.
	b.click("Make new codes")
	b.sees("The earlier ones no longer work.")
	b.await(named("Done") + `.disabled`)
	for range 3 { // browsers let a page refuse the first one only
		b.run(chromedp.KeyEvent(kb.Escape))
	}
	b.tick("I have saved these codes")
	b.click("Done")
	b.sees("10 codes left of 10")
	b.click("Remove")
	b.click("Remove")
	b.sees("Two-factor authentication is removed.")
}

// Whoever signs out with recovery codes on the page leaves nothing of them to the
// next one. A link that names no page leads to the start.
func TestSetUp_signedOutWithCodesShown(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"), person("Bruno Baker", "AGENT"))
	b := open(t, chromium(t), s.url)
	b.goTo("/set-up?next=http://")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	p := b.scan()
	b.click("Next")
	b.fill("Six-digit code", p.code())
	b.click("Confirm")
	b.at("Save your recovery codes")
	recovery := b.eval(`document.querySelector('.codes code').textContent`)
	b.click("Sign out")
	b.at("Sign in")
	b.signIn("bruno@acme.example")
	b.at("Bruno Baker")
	b.click("Set up")
	b.at("Set up two-factor authentication")
	require.NotContains(t, b.eval(`document.body.innerText`), recovery)
}

// Replacing an authenticator after a while asks for a code first. That replaces the
// session, and the picture stays all the same.
func TestSetUp_replaceWithAFreshCode(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	line := s.slow()
	b := open(t, chromium(t), line.url)
	b.goTo("/set-up")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	first := b.setUp()
	b.at("Agnes Agent")
	// The code of the set-up is fresh for five minutes; the answer is that of later.
	line.hold("/v1/me/factors:beginEnrollment")
	b.click("Replace")
	begin := line.next("/v1/me/factors:beginEnrollment")
	line.hold()
	begin.refuse(t, "STEP_UP_REQUIRED")
	b.sees("This change needs a code that you enter now.")
	b.fill("Six-digit code", first.code())
	b.click("Confirm")
	b.sees("go on working until you finish here")
	second := b.scan()
	require.NotEqual(t, first.secret, second.secret)
	b.click("Next")
	b.click("Back")
	b.at("Set up two-factor authentication")
	require.Equal(t, second.secret, b.scan().secret)
	b.click("Next")
	b.fill("Six-digit code", second.code())
	b.click("Confirm")
	b.finishSetUp()
	b.at("Agnes Agent")
}
