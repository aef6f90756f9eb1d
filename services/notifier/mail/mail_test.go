package mail_test

import (
	"bytes"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/twofold-auth/twofold/services/notifier/mail"
)

func newRenderer(t testing.TB) *mail.Renderer {
	t.Helper()
	r, err := mail.NewRenderer(mail.Config{From: "Twofold <no-reply@twofold.example>"})
	require.NoError(t, err)
	return r
}

// parsed is a mail as a mail program sees it.
type parsed struct {
	header     netmail.Header
	subject    string
	text, html string
}

func parse(t testing.TB, m *mail.Message) parsed {
	t.Helper()
	raw, err := m.Bytes()
	require.NoError(t, err)
	requireWireForm(t, raw)
	msg, err := netmail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)

	p := parsed{header: msg.Header}
	p.subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	require.NoError(t, err)
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for i, want := range []string{"text/plain", "text/html"} {
		part, err := parts.NextRawPart()
		require.NoError(t, err)
		kind, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		require.NoError(t, err)
		require.Equal(t, want, kind)
		require.Equal(t, "utf-8", strings.ToLower(params["charset"]))
		require.Equal(t, "quoted-printable", part.Header.Get("Content-Transfer-Encoding"))
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		unix := strings.ReplaceAll(string(body), "\r\n", "\n")
		if i == 0 {
			p.text = unix
		} else {
			p.html = unix
		}
	}
	_, err = parts.NextRawPart()
	require.ErrorIs(t, err, io.EOF, "two parts and no more")
	return p
}

// requireWireForm checks what RFC 5321 section 4.5.3.1.6 and RFC 5322 section
// 2.1 ask of every line: short, ASCII, and ended by CRLF only.
func requireWireForm(t testing.TB, raw []byte) {
	t.Helper()
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		require.LessOrEqual(t, len(line), 998)
		for _, b := range line {
			if b != '\t' && (b < ' ' || b >= 0x7f) {
				require.Failf(t, "not ASCII text", "byte %#x in %q", b, line)
			}
		}
	}
}

// webText is what a reader of the HTML part sees, and the links in it.
type webText struct {
	visible string
	hrefs   []string
	loads   []string
}

func readHTML(t testing.TB, source string) webText {
	t.Helper()
	root, err := html.Parse(strings.NewReader(source))
	require.NoError(t, err)
	var w webText
	var b strings.Builder
	for n := range root.Descendants() {
		switch n.Type { //nolint:exhaustive // Comments and the like are not seen.
		case html.TextNode:
			if n.Parent.Data != "style" && n.Parent.Data != "title" {
				b.WriteString(n.Data + " ")
			}
		case html.ElementNode:
			for _, a := range n.Attr {
				switch a.Key {
				case "href":
					w.hrefs = append(w.hrefs, a.Val)
				case "src", "srcset", "background", "poster", "data", "action", "onclick":
					w.loads = append(w.loads, n.Data+" "+a.Val)
				}
			}
			if slices.Contains([]string{"img", "script", "link", "iframe", "object", "form", "svg"}, n.Data) {
				w.loads = append(w.loads, n.Data)
			}
		}
	}
	w.visible = strings.Join(strings.Fields(b.String()), " ")
	return w
}

func fields(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestRender_headers(t *testing.T) {
	r := newRenderer(t)
	for name, content := range samples("Ada Lovelace", "Acme", "Grace Hopper") {
		t.Run(name, func(t *testing.T) {
			m, err := r.Render(envelope(), content)
			require.NoError(t, err)
			h := parse(t, m).header
			require.Equal(t, []string{
				"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject",
				"To", "Twofold-Event-Id", "Twofold-Notice",
			}, slices.Sorted(maps.Keys(h)))
			require.Equal(t, `"Ada Lovelace" <ada@acme.example>`, h.Get("To"))
			require.Equal(t, `"Twofold" <no-reply@twofold.example>`, h.Get("From"))
			require.Equal(t, "<0193b2c4-7e1a-7000-8000-000000000001@twofold.example>", h.Get("Message-Id"))
			require.Equal(t, string(m.Kind), h.Get("Twofold-Notice"))
			require.Equal(t, envelope().EventID, h.Get("Twofold-Event-Id"))
			require.Equal(t, "auto-generated", h.Get("Auto-Submitted"))
			date, err := h.Date()
			require.NoError(t, err)
			require.True(t, date.Equal(envelope().Date))
		})
	}
}

// Every kind of the contract has a sample here, so the other tests see them all.
func TestSamples_coverEveryKind(t *testing.T) {
	r := newRenderer(t)
	seen := map[mail.Kind]bool{}
	for _, content := range samples("Ada", "Acme", "Grace") {
		m, err := r.Render(envelope(), content)
		require.NoError(t, err)
		seen[m.Kind] = true
	}
	require.ElementsMatch(t, mail.Kinds(), slices.Collect(maps.Keys(seen)))
}

// Each part alone must tell who, what, when and what to do.
func TestRender_bothPartsSayEverything(t *testing.T) {
	r := newRenderer(t)
	week := "Monday, 30 November 2026 at 14:05 UTC"
	now := "Monday, 23 November 2026 at 14:05 UTC"
	for name, wants := range map[string][]string{
		"enforcement":         {"Grace Hopper has switched on", "Your sessions end", week, now, "Set up two-factor authentication", base + "/setup"},
		"enforcement earlier": {"Grace Hopper has changed the date", week, "Date told before", "Thursday, 3 December 2026 at 14:05 UTC", base + "/setup"},
		"enforcement at once": {"Grace Hopper has switched on", "Your sessions have ended on all your devices", now, base + "/setup"},
		"lifted":              {"Grace Hopper has switched off", now, "You do not have to do anything", base + "/profile"},
		"reset":               {"Grace Hopper has reset", now, "Lost the phone on the train", "signed out on all your devices", "Acme requires", base + "/sign-in"},
		"reset optional":      {"Grace Hopper has reset", now, "in your security settings", base + "/sign-in"},
		"added":               {"Authenticator app", now, "Was this not you?", base + "/security"},
		"removed":             {"Authenticator app", now, "Was this not you?", base + "/security"},
		"recovery code":       {"You have 7 recovery codes left", now, base + "/security"},
		"last recovery code":  {"You have no recovery codes left", "Make new recovery codes", now, base + "/security"},
		"invitation":          {"Grace Hopper has made a profile for you", week, "requires two-factor authentication", base + "/accept?token=YWJj&lang=en"},
		"password":            {"asked for a new password", now, "Monday, 23 November 2026 at 15:05 UTC", base + "/reset?token=YWJj&lang=en"},
		"password changed":    {"was changed", "on your other devices", now, "Was this not you?", base + "/security"},
		"password chosen":     {"A password was chosen", "invitation", now, "Was this not you?", base + "/security"},
		"password forgotten":  {"with a link that was sent to this address", "on all your devices", now, base + "/security"},
		"address":             {"Grace Hopper has changed the email address", "a***@e***.com", now, base + "/sign-in"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := r.Render(envelope(), samples("Ada Lovelace", "Acme", "Grace Hopper")[name])
			require.NoError(t, err)
			p := parse(t, m)
			require.Contains(t, p.subject, "Acme")
			web := readHTML(t, p.html)
			for _, want := range append(wants, "Hello Ada Lovelace,", "Acme", "ask you for your password or for a code") {
				require.Contains(t, fields(p.text), want, "plain text")
				require.Contains(t, strings.ReplaceAll(web.visible, " ,", ","), want, "HTML")
			}
			require.NotContains(t, p.text+p.subject, "<no value>")
			require.NotContains(t, p.text+p.subject, "&amp;", "plain text is not HTML")
			for line := range strings.Lines(p.text) {
				if !strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "http") {
					require.LessOrEqual(t, len(line), 73)
				}
			}
			require.Empty(t, web.loads, "nothing is loaded from the network")
			require.Len(t, slices.Compact(web.hrefs), 1, "one thing to do")
			require.NotContains(t, p.html, "url(")
			require.NotContains(t, p.html, "@import")
		})
	}
}

// A reset without a reason must not show an empty line for it.
func TestRender_leavesOutWhatIsNotThere(t *testing.T) {
	m, err := newRenderer(t).Render(envelope(), samples("", "Acme", "")["reset optional"])
	require.NoError(t, err)
	require.NotContains(t, m.Text, "Reason")
	require.Contains(t, m.Text, "Hello,\n")
	require.Contains(t, fields(m.Text), "An administrator has reset")
	require.NotContains(t, parse(t, m).header.Get("To"), `""`)
}

func TestRender_times(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	r, err := mail.NewRenderer(mail.Config{From: "no-reply@twofold.example", Location: berlin})
	require.NoError(t, err)
	at := time.Date(2026, time.November, 30, 13, 5, 7, 0, time.UTC)
	m, err := r.Render(envelope(), mail.EnforcementEnabled{
		AccountName: "Acme", EnforceTime: at.Add(-time.Hour), SessionRevokeTime: at, SetUpURL: base,
	})
	require.NoError(t, err)
	require.Contains(t, m.Text, "Monday, 30 November 2026 at 14:05 CET", "never later than the sessions really end")

	m, err = r.Render(envelope(), mail.EnforcementEnabled{
		AccountName: "Acme", EnforceTime: at.Add(-20 * time.Second), SessionRevokeTime: at, SetUpURL: base,
	})
	require.NoError(t, err)
	require.Contains(t, m.Text, "Monday, 30 November 2026 at 14:05:07 CET", "a short grace period needs seconds")
}

// Two tries to send one notice must be one mail to whoever sees both.
func TestBytes_sameNoticeSameBytes(t *testing.T) {
	r := newRenderer(t)
	var first []byte
	for range 3 {
		m, err := r.Render(envelope(), samples("Ada", "Acme", "Grace")["enforcement"])
		require.NoError(t, err)
		raw, err := m.Bytes()
		require.NoError(t, err)
		if first == nil {
			first = raw
		}
		require.Equal(t, string(first), string(raw))
	}
}

var hostile = []string{
	"Eve\r\nBcc: all@evil.example\r\n\r\nhello",
	"Eve\nSubject: paid",
	"Eve\u2028Bcc: x@evil.example\u0085Cc: y\v\f",
	"<script>alert(1)</script><a href=\"https://evil.example/\">x</a>",
	"\"><img src=https://evil.example/p.png>",
	"[click here](https://evil.example/login)",
	"https://evil.example/login",
	"HTTP://EVIL.EXAMPLE www.evil.example evil.example/x",
	"go to evil。example or evil．example now",
	"mailto:eve@evil.example",
	"javascript://evil.example/%0aalert(1)",
	"ada\u202egro.elpmaxe\u202c \u2066x\u2069 \u200f\u061c",
	"=?utf-8?q?evil=0D=0ABcc:_x@evil.example?=",
	"{{.AdminName}} {{template \"facts\"}}",
	"\x00\x07\x1b[31mred\x7f\xff\xfe",
	"ht\u200btps:\u200b//evil\u200b.\u200bexample",
	"https:\u200c//evil.\u200cexample",
	strings.Repeat("a", 5000) + " " + strings.Repeat("b", 5000),
	"\ufffd\ufeff\U000e0041\u00ad",
	"- - boundary --=_0123456789abcdef",
	"Account: Other\n\nFacts: none",
}

// requireHarmless compares a mail with hostile names to one with plain names: the
// same headers, the same links, the same structure, and no visible link.
func requireHarmless(t testing.TB, r *mail.Renderer, name, bad string) {
	t.Helper()
	plain, err := r.Render(envelope(), samples("Ada", "Acme", "Grace")[name])
	require.NoError(t, err)
	content := samples(bad, bad, bad)[name]
	if reset, ok := content.(mail.MFAReset); ok && reset.Reason != "" {
		reset.Reason = mail.FreeText(bad)
		content = reset
	}
	m, err := r.Render(envelope(), content)
	require.NoError(t, err)
	want, got := parse(t, plain), parse(t, m)
	require.Equal(t, slices.Sorted(maps.Keys(want.header)), slices.Sorted(maps.Keys(got.header)))
	for key, values := range got.header {
		require.Len(t, values, 1, key)
	}
	to, err := netmail.ParseAddressList(got.header.Get("To"))
	require.NoError(t, err)
	require.Len(t, to, 1)
	require.Equal(t, "ada@acme.example", to[0].Address)

	require.Equal(t, elements(t, want.html), elements(t, got.html), "markup")
	wantWeb, gotWeb := readHTML(t, want.html), readHTML(t, got.html)
	require.Equal(t, wantWeb.hrefs, gotWeb.hrefs)
	require.Empty(t, gotWeb.loads)
	for what, s := range map[string]string{"subject": got.subject, "text": got.text, "html": gotWeb.visible, "to": to[0].Name} {
		rest := strings.ReplaceAll(s, gotWeb.hrefs[0], "")
		require.NotRegexp(t, linkLike, rest, what)
		require.NotRegexp(t, invisible, rest, what)
	}
	require.NotContains(t, got.subject, "\n")
	require.LessOrEqual(t, strings.Count(got.text, "\n  "), strings.Count(want.text, "\n  "), "no fact was added")
}

var (
	linkLike  = regexp.MustCompile(`(?i)://|www\.\w|evil\.ex|\]\(`)
	invisible = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{200b}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e0fff}]`)
)

// elements tells which elements with which attributes a page is made of.
func elements(t testing.TB, source string) map[string]bool {
	t.Helper()
	root, err := html.Parse(strings.NewReader(source))
	require.NoError(t, err)
	out := map[string]bool{}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			attrs := make([]string, 0, len(n.Attr))
			for _, a := range n.Attr {
				attrs = append(attrs, a.Key)
			}
			if n.Data != "bdi" {
				out[n.Data+"["+strings.Join(attrs, ",")+"]"] = true
			}
		}
	}
	return out
}

func TestRender_hostileNames(t *testing.T) {
	r := newRenderer(t)
	for name := range samples("", "", "") {
		for _, bad := range hostile {
			requireHarmless(t, r, name, bad)
		}
	}
}

func FuzzRender(f *testing.F) {
	names := slices.Sorted(maps.Keys(samples("", "", "")))
	for i, bad := range hostile {
		f.Add(uint8(i), bad)
	}
	r := newRenderer(f)
	f.Fuzz(func(t *testing.T, which uint8, bad string) {
		requireHarmless(t, r, names[int(which)%len(names)], bad)
	})
}

// Cleaning must leave the names of honest people alone.
func TestRender_honestNames(t *testing.T) {
	r := newRenderer(t)
	for _, name := range []string{
		"Ada Lovelace", "J.R. Smith", "Acme, Inc.", "O'Brien & Söhne GmbH", "李小龍", "محمد علي", "דנה כהן",
		"نمی\u200cخواهم", "Zoë 👩\u200d💻", `The "Quoted" Company`, "A < B", "100% Support =20", ".NET Team",
	} {
		m, err := r.Render(envelope(), samples(name, name, name)["enforcement"])
		require.NoError(t, err)
		p := parse(t, m)
		require.Contains(t, p.subject, name)
		require.Contains(t, p.text, "Hello "+name+",")
		require.Contains(t, readHTML(t, p.html).visible, fields(name))
		to, err := netmail.ParseAddress(p.header.Get("To"))
		require.NoError(t, err)
		require.Equal(t, name, to.Name)
	}
}

func TestRender_refuses(t *testing.T) {
	r := newRenderer(t)
	good := samples("Ada", "Acme", "Grace")["lifted"]
	for _, to := range []string{
		"", "ada", "@acme.example", "ada@", "ada@acme.example\r\nRCPT TO:<eve@evil.example>", `"ada b"@acme.example`,
		"ada@acme.example,eve@evil.example", "ada@acme.example>", "<ada@acme.example>", "ada b@acme.example",
		"ada@[127.0.0.1]", "ada@-acme.example", "ada@acme..example", ".ada@acme.example", "ada\x00@acme.example",
		"ädä@acme.example", strings.Repeat("a", 65) + "@acme.example", "a@" + strings.Repeat("a.", 130) + "example",
	} {
		env := envelope()
		env.To = to
		_, err := r.Render(env, good)
		require.ErrorIs(t, err, mail.ErrAddress, "%q", to)
	}
	for _, id := range []string{"", "a b", "a\r\nBcc: x", "a@b", "<a>", strings.Repeat("a", 200)} {
		env := envelope()
		env.NoticeID = id
		_, err := r.Render(env, good)
		require.ErrorIs(t, err, mail.ErrMessage, "notice id %q", id)
		env = envelope()
		env.EventID = id
		_, err = r.Render(env, good)
		require.ErrorIs(t, err, mail.ErrMessage, "event id %q", id)
	}
	for _, link := range []mail.Link{
		"", "/setup", "javascript:alert(1)", "https:///x", "https://good.example@evil.example/", "ftp://acme.example/", "http://a.example/\r\nb", "https://a b/",
	} {
		_, err := r.Render(envelope(), mail.EnforcementLifted{AccountName: "Acme", ProfileURL: link})
		require.ErrorIs(t, err, mail.ErrContent, "%q", link)
	}
	_, err := mail.NewRenderer(mail.Config{From: "nobody"})
	require.ErrorIs(t, err, mail.ErrAddress)
}

func TestRender_internationalDomain(t *testing.T) {
	env := envelope()
	env.To = "ada@bücher.example"
	m, err := newRenderer(t).Render(env, samples("Ada", "Acme", "Grace")["lifted"])
	require.NoError(t, err)
	require.Equal(t, "ada@xn--bcher-kva.example", m.To)
}

// A message filled in by hand gets no further than Render's own.
func TestBytes_checksHandmadeMessages(t *testing.T) {
	good, err := newRenderer(t).Render(envelope(), samples("Ada", "Acme", "Grace")["lifted"])
	require.NoError(t, err)
	for name, breakIt := range map[string]func(*mail.Message){
		"recipient": func(m *mail.Message) { m.To = "a@x.example, b@y.example" },
		"sender":    func(m *mail.Message) { m.From.Address = "a@x.example\r\nBcc: b@y.example" },
		"subject":   func(m *mail.Message) { m.Subject = "a\r\nBcc: b@y.example" },
		"name":      func(m *mail.Message) { m.ToName = "a\nb" },
		"event":     func(m *mail.Message) { m.EventID = "a\r\nX: y" },
		"kind":      func(m *mail.Message) { m.Kind = "" },
		"id":        func(m *mail.Message) { m.MessageID = "a>@x.example" },
		"date":      func(m *mail.Message) { m.Date = time.Time{} },
	} {
		m := *good
		breakIt(&m)
		_, err := m.Bytes()
		require.Error(t, err, name)
	}
}

// Set TWOFOLD_MAIL_SAMPLES to a folder to look at every mail in a browser.
func TestWriteSamples(t *testing.T) {
	dir := os.Getenv("TWOFOLD_MAIL_SAMPLES")
	if dir == "" {
		dir = t.TempDir()
	}
	folder, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, folder.Close()) }()
	r := newRenderer(t)
	for name, content := range samples("Ada Lovelace", "Acme Support", "Grace Hopper") {
		m, err := r.Render(envelope(), content)
		require.NoError(t, err)
		name = strings.ReplaceAll(name, " ", "_")
		require.NoError(t, folder.WriteFile(name+".html", []byte(m.HTML), 0o600))
		require.NoError(t, folder.WriteFile(name+".txt", []byte(m.Subject+"\n\n"+m.Text), 0o600))
	}
}
