package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/internal/app"
)

const (
	operatorToken = "operator-token-of-the-tests"
	password      = "correct horse battery"
)

// suite is an all-in-one of a test.
type suite struct {
	t   *testing.T
	url string
}

// start runs an all-in-one on embedded parts.
func start(t *testing.T, more ...string) *suite {
	t.Helper()
	config, err := app.LoadConfig(append([]string{
		"TWOFOLD_HTTP_ADDR=127.0.0.1:0", "TWOFOLD_GRPC_ADDR=127.0.0.1:0", "TWOFOLD_NO_DEMO=1",
		"TWOFOLD_DATA_DIR=" + t.TempDir(), "TWOFOLD_OPERATOR_TOKEN=" + operatorToken,
	}, more...))
	require.NoError(t, err)
	s, err := allinone.Open(t.Context(), &app.Process{
		Config: config, Log: slog.New(slog.DiscardHandler), Metrics: app.NewRegistry(), Now: time.Now,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.AwaitReady(ready))
	return &suite{t: t, url: s.URL}
}

// call calls REST as the operator and reads the answer into out, unless it is nil.
func (s *suite) call(method, path string, body, out any) {
	s.t.Helper()
	content, err := json.Marshal(body)
	require.NoError(s.t, err)
	if body == nil {
		content = nil
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(content))
	require.NoError(s.t, err)
	request.Header.Set("Authorization", "Bearer "+operatorToken)
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(s.t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode, "%s %s: %s", method, path, answer)
	if out != nil {
		require.NoError(s.t, json.Unmarshal(answer, out))
	}
}

type object = map[string]any

// account makes the account acme with an owner, Olivia, and further agents: those whose
// role is not said are agents.
func (s *suite) account(agents ...object) {
	s.t.Helper()
	s.call(http.MethodPost, "/v1/accounts", object{
		"accountId": "acme", "displayName": "Acme Support",
		"owner": object{"email": "olivia@acme.example", "displayName": "Olivia Owner", "password": password},
	}, nil)
	if len(agents) > 0 {
		s.call(http.MethodPost, "/v1/accounts/acme/agents:import", object{"agents": agents}, nil)
	}
}

// agent returns the resource name of an agent.
func (s *suite) agent(query string) string {
	s.t.Helper()
	var found struct{ Agents []struct{ Name string } }
	s.call(http.MethodGet, "/v1/accounts/acme/agents?"+url.Values{"query": {query}}.Encode(), nil, &found)
	require.Len(s.t, found.Agents, 1)
	return found.Agents[0].Name
}

func person(name, role string) object {
	return object{
		"email": strings.ToLower(strings.Fields(name)[0]) + "@acme.example", "displayName": name, "role": role, "password": password,
	}
}

// phone is a person's authenticator app.
type phone struct {
	t      *testing.T
	secret string
	used   map[string]bool
	last   string
}

// scan reads the QR code from the picture on the page, as a phone does.
func (b *browser) scan() *phone {
	b.t.Helper()
	b.await(`document.querySelector('img.qr')?.complete`)
	_, encoded, _ := strings.Cut(b.eval(`document.querySelector('img.qr').src`), ",")
	content, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(b.t, err)
	picture, err := png.Decode(bytes.NewReader(content))
	require.NoError(b.t, err)
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	require.NoError(b.t, err)
	read, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
	require.NoError(b.t, err)
	uri, err := url.Parse(read.GetText())
	require.NoError(b.t, err)
	return &phone{t: b.t, secret: uri.Query().Get("secret"), used: map[string]bool{}}
}

// code returns a code that was not used before. Of the steps that count now, three
// do, it takes the earliest; with all used it waits for the next.
func (p *phone) code() string {
	p.t.Helper()
	var code string
	require.Eventually(p.t, func() bool {
		for _, away := range []time.Duration{-20 * time.Second, 0, 25 * time.Second} {
			made, err := totp.GenerateCode(p.secret, time.Now().Add(away))
			require.NoError(p.t, err)
			if !p.used[made] {
				p.used[made], p.last, code = true, made, made
				return true
			}
		}
		return false
	}, time.Minute, 200*time.Millisecond)
	return code
}

// wrong returns a code that none of the steps near now has.
func (p *phone) wrong() string {
	near := map[string]bool{}
	for step := -3; step <= 3; step++ {
		made, err := totp.GenerateCode(p.secret, time.Now().Add(time.Duration(step)*30*time.Second))
		require.NoError(p.t, err)
		near[made] = true
	}
	for _, guess := range []string{"123456", "654321", "111222", "333444", "555666", "777888", "999000", "121212"} {
		if !near[guess] {
			return guess
		}
	}
	p.t.Fatal("eight codes at once: a wonder")
	return ""
}

// signIn types who somebody is.
func (b *browser) signIn(email string) {
	b.t.Helper()
	b.at("Sign in")
	b.fill("Account", "acme")
	b.fill("Email address", email)
	b.fill("Password", password)
	b.click("Sign in")
}

// setUp goes through the three steps from the first of them, and the popup.
func (b *browser) setUp() *phone {
	b.t.Helper()
	b.at("Set up two-factor authentication")
	p := b.scan()
	b.click("Next")
	b.at("Type the code from your app")
	b.fill("Six-digit code", p.code())
	b.click("Confirm")
	b.finishSetUp()
	return p
}

// finishSetUp saves the recovery codes and reads the popup.
func (b *browser) finishSetUp() {
	b.t.Helper()
	b.at("Save your recovery codes")
	require.Equal(b.t, "10", b.eval(`document.querySelectorAll('.codes li').length`))
	b.await(named("Finish") + `.disabled`)
	b.tick("I have saved these codes")
	b.click("Finish")
	b.await(`document.querySelector('dialog[open] h2')?.textContent === 'Two-factor authentication is set up'`)
	b.click("Continue")
	b.await(`!document.querySelector('dialog')`)
}

// mails are what the inbox has for an address, by what they are about.
func (s *suite) mails(address string) map[string]int {
	s.t.Helper()
	var answer struct{ Messages []struct{ Kind string } }
	s.call(http.MethodGet, "/inbox/messages?"+url.Values{"to": {address}}.Encode(), nil, &answer)
	kinds := map[string]int{}
	for _, m := range answer.Messages {
		kinds[m.Kind]++
	}
	return kinds
}

func (s *suite) awaitMail(address, kind string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.mails(address)[kind] == 1 }, patience, 50*time.Millisecond, "mail %s to %s", kind, address)
}

func (s *suite) noMail(address, kind string) {
	s.t.Helper()
	require.Zero(s.t, s.mails(address)[kind])
}

func number(i int) string { return fmt.Sprintf("%03d", i) }
