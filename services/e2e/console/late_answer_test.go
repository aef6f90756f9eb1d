package console

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A question of the page before, answered after "Sign out" ended the session, neither
// moves anybody nor says that somebody else ended it.
func TestSession_lateAnswerAfterSignOut(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	line := s.slow()
	b := open(t, chromium(t), line.url)
	b.goTo("/profile")
	b.signIn("agnes@acme.example")
	b.at("Agnes Agent")
	b.run(reload) // a page that was just loaded asks who is signed in when it is touched
	b.at("Agnes Agent")

	line.hold("/v1/me", "/v1/signOut")
	b.click("Sign out")
	me := line.next("/v1/me")
	signOut := line.next("/v1/signOut")
	signOut.reach() // the session is over, but the page does not know yet
	line.hold()
	me.release()
	b.sees("Signing out…")
	close(signOut.answer)
	b.at("Sign in")
	require.NotContains(t, b.eval("document.body.innerText"), "You were signed out")
	b.click("Forgot your password?")
	b.at("Choose a new password")
}

// A question asked with the session before a set-up, and answered after it, does not
// end the new session: it is asked again.
func TestSession_lateAnswerAfterSetUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	line := s.slow()
	b := open(t, chromium(t), line.url)
	b.goTo("/set-up")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	b.run(reload)
	b.sees("The earlier one is void")
	p := b.scan()

	line.hold("/v1/me")
	b.click("Next")
	before := line.next("/v1/me") // waits with the cookie of now
	b.fill("Six-digit code", p.code())
	line.hold()
	b.click("Confirm")
	b.at("Save your recovery codes")
	before.release()
	b.finishSetUp()
	b.at("Agnes Agent")
	b.run(reload)
	b.at("Agnes Agent")
	require.Equal(t, "0", b.eval(`document.querySelectorAll('.note.warn').length`))
}

// An admin ends the sessions of somebody who is in the middle of something. Each page
// says so and leads back to where the person was.
func TestSession_endedInTheMiddle(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Agnes Agent", "AGENT"))
	b := open(t, chromium(t), s.url)
	b.goTo("/profile")
	b.signIn("agnes@acme.example")
	b.at("Agnes Agent")
	endAll := func() {
		s.call(http.MethodPost, "/v1/"+s.agent("agnes")+"/sessions:revokeAll", object{}, nil)
	}

	// A dialog goes with its page.
	b.click("Change password")
	b.fill("Current password", password)
	b.fill("New password", "another long password")
	endAll()
	b.click("Change")
	b.at("Sign in")
	b.sees("This session was ended on another device")
	require.Equal(t, "0", b.eval(`document.querySelectorAll('dialog').length`))
	b.signIn("agnes@acme.example")
	b.at("Agnes Agent")

	// So does a set-up of one's own accord.
	b.goTo("/set-up")
	p := b.scan()
	b.click("Next")
	b.fill("Six-digit code", p.code())
	endAll()
	b.click("Confirm")
	b.at("Sign in")
	b.sees("This session was ended on another device")
	b.signIn("agnes@acme.example")
	b.at("Set up two-factor authentication")
	b.sees("The earlier one is void")
	b.setUp()
	b.at("Agnes Agent")
}
