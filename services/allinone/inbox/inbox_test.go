package inbox

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// letter is a mail as the notifier writes them.
func letter(to, subject string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: Twofold <no-reply@twofold.localhost>
To: "Ann" <%s>
Subject: %s
Date: Mon, 02 Nov 2026 15:04:05 +0000
Twofold-Notice: MFA_RESET
Twofold-Event-Id: 0190-abc
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=_b_

--_b_
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

Hello J=C3=B6rg, open http://127.0.0.1:8080/sign-in?account=3Dacme&long=3D=
yes
--_b_
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

<!DOCTYPE html><html><head><title>x</title></head><body style=3D"color:red">=
<script>alert(1)</script><p>J=C3=B6rg</p></body></html>
--_b_--
`, to, subject), "\n", "\r\n")
}

func open(t *testing.T, dir string, keep int) *Inbox {
	t.Helper()
	b, err := start(t.Context(), dir, keep, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func send(t *testing.T, b *Inbox, body string, to ...string) {
	t.Helper()
	u, err := url.Parse(b.URL())
	require.NoError(t, err)
	require.Equal(t, "smtp", u.Scheme)
	require.NoError(t, smtp.SendMail(u.Host, nil, "no-reply@twofold.localhost", to, []byte(body)))
}

func get(t *testing.T, b *Inbox, target string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Host = "127.0.0.1:8080"
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	return w
}

func messages(t *testing.T, b *Inbox, query string) []message {
	t.Helper()
	w := get(t, b, "/inbox/messages"+query)
	require.Equal(t, http.StatusOK, w.Code)
	var out struct {
		Messages []message `json:"messages"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	require.NotNil(t, out.Messages)
	return out.Messages
}

func TestInbox_listsWhatArrived(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	require.Empty(t, messages(t, b, ""))

	send(t, b, letter("ann@acme.example", "=?UTF-8?q?R=C3=BCckgesetzt?="), "ann@acme.example")
	send(t, b, letter("bob@acme.example", "Second"), "bob@acme.example")

	all := messages(t, b, "")
	require.Len(t, all, 2)
	require.Equal(t, "Second", all[0].Subject, "newest first")
	require.WithinDuration(t, time.Now(), all[0].Time, time.Minute)

	ann := messages(t, b, "?to=ANN@acme.example")
	require.Len(t, ann, 1)
	require.Equal(t, "ann@acme.example", ann[0].To)
	require.Equal(t, "Rückgesetzt", ann[0].Subject)
	require.Equal(t, "MFA_RESET", ann[0].Kind)
	require.Equal(t, "0190-abc", ann[0].EventID)
	require.Equal(t, "Hello Jörg, open http://127.0.0.1:8080/sign-in?account=acme&long=yes", ann[0].Text)
	require.Empty(t, messages(t, b, "?to=nobody@acme.example"))
}

func TestInbox_everyRecipientGetsACopy(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	send(t, b, letter("a@acme.example", "Both"), "a@acme.example", "b@acme.example")
	require.Len(t, messages(t, b, "?to=a@acme.example"), 1)
	require.Len(t, messages(t, b, "?to=b@acme.example"), 1)
}

func TestInbox_keepsTheNewestAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 3)
	for i := range 5 {
		send(t, b, letter("ann@acme.example", fmt.Sprintf("Number %d", i)), "ann@acme.example")
	}
	require.NoError(t, b.Close())
	// A process that ended while it wrote leaves half a mail, which nobody was
	// told had been taken.
	half := filepath.Join(dir, "000000000006.eml.tmp")
	require.NoError(t, os.WriteFile(half, []byte("Subject: ha"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not ours"), 0o600))

	b = open(t, dir, 3)
	send(t, b, letter("ann@acme.example", "Number 5"), "ann@acme.example")
	var subjects []string
	for _, m := range messages(t, b, "") {
		subjects = append(subjects, m.Subject)
	}
	require.Equal(t, []string{"Number 5", "Number 4", "Number 3"}, subjects)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 4, "three mails and what is not ours")
}

func TestInbox_takesWhatIsNoMail(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	for _, raw := range []string{"no header at all", "Subject: only\r\n\r\n", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nbroken"} {
		send(t, b, raw, "ann@acme.example")
	}
	for _, m := range messages(t, b, "") {
		require.Equal(t, http.StatusOK, get(t, b, "/inbox/"+m.ID).Code)
	}
	require.Equal(t, http.StatusOK, get(t, b, "/inbox").Code)
}

func TestPages(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	for i := range pageSize + 1 {
		send(t, b, letter("ann@acme.example", fmt.Sprintf("Number <%d>", i)), "ann@acme.example")
	}
	first := get(t, b, "/inbox?to=ann@acme.example")
	require.Equal(t, http.StatusOK, first.Code)
	require.Equal(t, pagePolicy, first.Header().Get("Content-Security-Policy"))
	require.NotContains(t, pagePolicy, "unsafe")
	require.Contains(t, first.Body.String(), "Number &lt;50&gt;")
	require.NotContains(t, first.Body.String(), "Number &lt;0&gt;")
	require.Contains(t, first.Body.String(), `href="/inbox?before=000000000002&amp;to=ann%40acme.example"`)
	require.NotContains(t, first.Body.String(), "style=")

	second := get(t, b, "/inbox?before=000000000002&to=ann%40acme.example")
	require.Contains(t, second.Body.String(), "Number &lt;0&gt;")
	require.NotContains(t, second.Body.String(), "Number &lt;1&gt;")
	require.Contains(t, second.Body.String(), `href="/inbox?to=ann%40acme.example"`)

	one := get(t, b, "/inbox/000000000001")
	require.Equal(t, http.StatusOK, one.Code)
	require.Contains(t, one.Body.String(), `<iframe src="/inbox/000000000001/html"`)
	require.Contains(t, one.Body.String(), "Hello Jörg")
	require.NotContains(t, one.Body.String(), "<script>")
	require.Contains(t, one.Body.String(), "MFA_RESET")

	style := get(t, b, "/inbox/style.css")
	require.Equal(t, "text/css; charset=utf-8", style.Header().Get("Content-Type"))
	require.Contains(t, style.Body.String(), "prefers-color-scheme: dark")
}

// What somebody else wrote runs nothing and loads nothing, wherever it is opened.
func TestPages_mailsHTMLIsInASandbox(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	send(t, b, letter("ann@acme.example", "Hello"), "ann@acme.example")
	w := get(t, b, "/inbox/000000000001/html")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	policy := w.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "sandbox allow-popups")
	require.NotContains(t, policy, "script")
	require.Contains(t, w.Body.String(), `<head><base target="_blank"><title>`)
	require.Contains(t, w.Body.String(), "<p>Jörg</p>")

	send(t, b, "Subject: plain\r\n\r\nno html", "ann@acme.example")
	require.Equal(t, http.StatusNotFound, get(t, b, "/inbox/000000000002/html").Code)
	require.NotContains(t, get(t, b, "/inbox/000000000002").Body.String(), "<iframe")
}

func TestPages_refuseWhatIsNotTheirs(t *testing.T) {
	b := open(t, t.TempDir(), maxMails)
	send(t, b, letter("ann@acme.example", "Hello"), "ann@acme.example")
	for _, target := range []string{"/inbox/000000000002", "/inbox/..%2Fkeys", "/inbox/1", "/inbox/000000000009/html"} {
		require.Equal(t, http.StatusNotFound, get(t, b, target).Code, target)
	}
	for host, want := range map[string]int{
		"localhost:8080": http.StatusOK, "127.0.0.1": http.StatusOK, "[::1]:8080": http.StatusOK, "LOCALHOST": http.StatusOK,
		"evil.example:8080": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
		"localhost.evil.example": http.StatusMisdirectedRequest, "192.0.2.7:8080": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/inbox/messages", nil)
		r.Host = host
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, r)
		require.Equal(t, want, w.Code, "Host %q", host)
		require.Equal(t, want == http.StatusOK, strings.Contains(w.Body.String(), "Jörg"), "Host %q", host)
	}
}
