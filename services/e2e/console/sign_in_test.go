package console

import "testing"

func TestProbe(t *testing.T) {
	s := start(t)
	s.account("acme", person("Adam Admin", "ADMIN"), person("Agnes Agent", "AGENT"))
	b := open(t, chromium(t), s.url)
	b.goTo("/")
	b.pictures("sign-in")
	b.signIn("adam@acme.example")
	b.at("agents")
	b.goTo("/set-up?next=/manage/security")
	b.pictures("set-up")
	b.setUp()
	b.pictures("after")
}
