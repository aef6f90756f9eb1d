package console

import (
	"strconv"
	"testing"
	"time"
)

// grace is long enough to do on two busy cores what has to be done before the end,
// and short enough to wait for.
const grace = 30 * time.Second

// The story of the feature through the page alone, in the browsers of three people.
func TestStory(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account(person("Adam Admin", "ADMIN"), person("Agnes Agent", "AGENT"), person("Bruno Agent", "AGENT"))
	root := chromium(t)
	admin, agnes, bruno := open(t, root, s.url), open(t, root, s.url), open(t, root, s.url)

	// Bruno is signed in from before, for 30 days. He looks at nothing but his page.
	bruno.goTo("/")
	bruno.at("Sign in")
	bruno.tick("Keep me logged in for 30 days")
	bruno.signIn("bruno@acme.example")
	bruno.at("Bruno Agent")

	// The admin is led to set up a factor first, and finds the choice kept.
	admin.goTo("/manage/security")
	admin.signIn("adam@acme.example")
	admin.at("Security")
	admin.tick("Enforce Two-Factor Authentication")
	admin.fill("Amount", strconv.Itoa(int(grace.Seconds())))
	admin.choose("Unit", "second")
	admin.click("Save")
	admin.sees("Set up your own second factor first")
	admin.click("Set up now")
	admin.setUp()
	admin.at("Security")
	admin.await(labeled("Enforce Two-Factor Authentication")+`.checked`, "the choice is kept")
	admin.click("Save")
	admin.sees("3 agents of 4 have no second factor yet.")
	admin.sees("3 mails go out")
	admin.sees("Nobody is signed out now.")
	admin.sees("1 session without a second factor ends on")
	admin.click("Enforce it")
	admin.sees("1 of 4 agents set up")
	admin.await(`[...document.querySelectorAll('.figure')].some(f => f.innerText.replace(/\s+/g, ' ') === 'Mails sent 3')`)
	s.awaitMail("agnes@acme.example", "ENFORCEMENT_ENABLED")

	// The progress survives a reload. Nobody else got a mail.
	admin.goTo("/manage/security")
	admin.sees("1 of 4 agents set up")
	s.noMail("adam@acme.example", "ENFORCEMENT_ENABLED")

	// Bruno is signed in as before, and reads when that ends as soon as he is back.
	bruno.run(reload)
	bruno.at("Bruno Agent")
	bruno.sees("Your account requires two-factor authentication. This session ends on")

	// Agnes signs in and is led through the set-up.
	admin.goTo("/agents")
	admin.await(tileWarning("Agnes Agent"))
	agnes.run(navigate(s.linkTo("agnes@acme.example", "ENFORCEMENT_ENABLED", "/set-up")))
	agnes.signIn("agnes@acme.example")
	agnes.sees("The admins of Acme Support require two-factor authentication of everybody in this account, since ")
	agnes.setUp()
	agnes.at("Agnes Agent")
	admin.goTo("/agents")
	admin.await(`!`+tileWarning("Agnes Agent")+` && `+tileWarning("Bruno Agent"), "the warning symbol is gone")
	admin.clickOn(tile("Bruno Agent"))
	admin.at("Bruno Agent")
	admin.sees("Two-Factor Authentication not setup")

	// At the deadline Bruno's page finds out by itself, and says why.
	bruno.at("Sign in")
	bruno.sees("Your account requires two-factor authentication, and the time to set it up is over.")
	agnes.run(reload)
	agnes.at("Agnes Agent")

	// Agnes loses her phone.
	admin.goTo("/agents")
	admin.clickOn(tile("Agnes Agent"))
	admin.at("Agnes Agent")
	admin.click("Reset Two-Factor Authentication")
	admin.fill("Reason", "She lost her phone on the train")
	admin.click("Reset for Agnes Agent")
	admin.sees("Two-factor authentication of Agnes Agent is reset.")
	agnes.run(reload)
	agnes.at("Sign in")
	s.awaitMail("agnes@acme.example", "MFA_RESET")
	agnes.run(navigate(s.url + "/inbox?to=agnes@acme.example"))
	agnes.sees("MFA_RESET")
	agnes.clickOn(`[...document.querySelectorAll('.mails a')].find(a => a.innerText.includes('MFA_RESET'))`)
	agnes.sees("She lost her phone on the train")
	agnes.run(navigate(s.linkTo("agnes@acme.example", "MFA_RESET", "/sign-in")))
	agnes.signIn("agnes@acme.example")
	agnes.setUp()
	agnes.at("Agnes Agent")

	// The mail about the set-up leads to what there is to see of it.
	agnes.goTo("/")
	agnes.run(navigate(s.linkTo("agnes@acme.example", "FACTOR_ADDED", "/profile")))
	agnes.at("Agnes Agent")
	agnes.sees("10 codes left of 10")
}
