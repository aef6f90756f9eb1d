package console

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// linkTo returns the link that the newest mail of a kind to an address leads to.
func (s *suite) linkTo(address, kind, page string) string {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.mails(address)[kind] > 0 }, patience, 50*time.Millisecond, "mail %s to %s", kind, address)
	var answer struct{ Messages []struct{ Kind, Text string } }
	s.call(http.MethodGet, "/inbox/messages?"+url.Values{"to": {address}}.Encode(), nil, &answer)
	for _, m := range answer.Messages {
		if m.Kind == kind {
			link := regexp.MustCompile(regexp.QuoteMeta(s.url+page) + `\S+`).FindString(m.Text)
			require.NotEmpty(s.t, link, m.Text)
			return link
		}
	}
	s.t.Fatalf("no mail %s to %s", kind, address)
	return ""
}

// Somebody is invited, chooses a password, forgets it, and chooses another. Neither
// link signs anybody in, works twice, or stays in the address.
func TestPassword_invitationAndReset(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.account()
	s.call(http.MethodPost, "/v1/accounts/acme/agents", object{"email": "nora@acme.example", "displayName": "Nora New", "role": "AGENT"}, nil)
	b := open(t, chromium(t), s.url)
	invitation := s.linkTo("nora@acme.example", "INVITATION", "/accept-invitation")
	b.run(navigate(invitation))
	b.at("Welcome. Choose a password")
	require.NotContains(t, b.eval("location.href"), "token")
	b.fill("New password", "short")
	b.click("Save the password")
	b.sees("Use at least 8 characters.")
	b.fill("New password", password)
	b.click("Save the password")
	b.at("Your password is saved")
	b.click("Sign in")
	b.signIn("nora@acme.example")
	b.at("Nora New")
	b.click("Sign out")

	b.click("Forgot your password?")
	b.fill("Account", "acme")
	b.fill("Email address", "nora@acme.example")
	b.click("Send the link")
	b.at("Look into your mails")
	link := s.linkTo("nora@acme.example", "PASSWORD_RESET", "/reset-password")
	b.run(navigate(link))
	b.at("Choose a new password")
	b.fill("New password", "another long password")
	b.click("Save the password")
	b.at("Your password is saved")
	b.run(navigate(link))
	b.at("Choose a new password")
	b.fill("New password", "yet another password")
	b.click("Save the password")
	b.sees("This link is used up, replaced or too old.")
	b.goTo("/sign-in")
	b.signIn("nora@acme.example")
	b.sees("Account, email address or password is wrong.")
	b.fill("Password", "another long password")
	b.click("Sign in")
	b.at("Nora New")
}
