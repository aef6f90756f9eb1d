package inbox

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

const (
	// pageSize is how many mails the page lists at once.
	pageSize = 50
	// maxMessages is how many mails the JSON lists at once.
	maxMessages = 200
)

// The policy of our own pages: they need a style sheet and the frame with a mail,
// and nothing else.
const pagePolicy = "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// The policy of a mail's HTML. Mails carry their styles inline and their pictures
// in data URLs. Links open in a tab of their own, which leaves the sandbox: where
// they lead is an ordinary page.
const mailPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'; " +
	"sandbox allow-popups allow-popups-to-escape-sandbox"

//go:embed assets
var assets embed.FS

// page is what the templates show.
type page struct {
	Title string
	To    string
	Mails []row
	Older string
	Later bool
	Mail  *row
}

// row is one mail.
type row struct {
	ID, To, From, Subject, Kind, EventID, Time, Shown, Text string
	HasHTML                                                 bool
}

// Handler serves the mails under /inbox.
func (b *Inbox) Handler() http.Handler {
	templates := template.Must(template.ParseFS(assets, "assets/*.tmpl"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /inbox", func(w http.ResponseWriter, r *http.Request) { b.serveList(w, r, templates) })
	mux.Handle("GET /inbox/{$}", http.RedirectHandler("/inbox", http.StatusMovedPermanently))
	mux.HandleFunc("GET /inbox/messages", b.serveMessages)
	mux.HandleFunc("GET /inbox/style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, assets, "assets/style.css")
	})
	mux.HandleFunc("GET /inbox/{id}", func(w http.ResponseWriter, r *http.Request) { b.serveMail(w, r, templates) })
	mux.HandleFunc("GET /inbox/{id}/html", b.serveHTML)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !isLoopback(r.Host) {
			http.Error(w, "The inbox answers on localhost only.", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isLoopback says whether a Host header names this machine as it calls itself.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback()
}

func (b *Inbox) serveList(w http.ResponseWriter, r *http.Request, templates *template.Template) {
	to, before := r.URL.Query().Get("to"), r.URL.Query().Get("before")
	mails, more := b.list(to, before, pageSize)
	p := page{Title: "Inbox", To: to, Later: before != ""}
	for _, s := range mails {
		p.Mails = append(p.Mails, rowOf(s))
	}
	if more {
		query := url.Values{"before": {mails[len(mails)-1].id}}
		if to != "" {
			query.Set("to", to)
		}
		p.Older = "/inbox?" + query.Encode()
	}
	show(w, templates, "list.tmpl", p)
}

func (b *Inbox) serveMail(w http.ResponseWriter, r *http.Request, templates *template.Template) {
	s, c, ok := b.read(r.PathValue("id"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	shown := rowOf(s)
	shown.From, shown.Text, shown.HasHTML = decoded(c.header.Get("From")), c.text, c.html != ""
	show(w, templates, "mail.tmpl", page{Title: shown.Subject, Mail: &shown})
}

// headTag is where a mail's HTML says what its links do.
var headTag = regexp.MustCompile(`(?i)<head[^>]*>`)

func (b *Inbox) serveHTML(w http.ResponseWriter, r *http.Request) {
	_, c, ok := b.read(r.PathValue("id"))
	if !ok || c.html == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Security-Policy", mailPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	const newTab = `<base target="_blank">`
	if at := headTag.FindStringIndex(c.html); at != nil {
		c.html = c.html[:at[1]] + newTab + c.html[at[1]:]
	} else {
		c.html = newTab + c.html
	}
	_, _ = w.Write([]byte(c.html)) // as it came: the policy above runs and loads nothing of it
}

// message is a mail in the JSON.
type message struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	EventID string    `json:"eventId"`
	Text    string    `json:"text"`
}

func (b *Inbox) serveMessages(w http.ResponseWriter, r *http.Request) {
	mails, _ := b.list(r.URL.Query().Get("to"), r.URL.Query().Get("before"), maxMessages)
	out := struct {
		Messages []message `json:"messages"`
	}{[]message{}}
	for _, s := range mails {
		_, c, ok := b.read(s.id)
		if !ok {
			continue // made room for a newer one meanwhile
		}
		out.Messages = append(out.Messages, message{
			ID: s.id, To: s.to, Subject: s.subject, Time: s.time, Kind: s.kind, EventID: s.eventID, Text: c.text,
		})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the caller is gone, or gets it
}

// read returns a mail.
func (b *Inbox) read(id string) (summary, content, bool) {
	s, ok := b.find(id) // only names from the index reach the disk
	if !ok {
		return summary{}, content{}, false
	}
	raw, err := os.ReadFile(b.path(s.id))
	if err != nil {
		return summary{}, content{}, false
	}
	return s, parse(raw), true
}

func rowOf(s summary) row {
	subject := s.subject
	if subject == "" {
		subject = "(no subject)"
	}
	return row{
		ID: s.id, To: s.to, Subject: subject, Kind: s.kind, EventID: s.eventID,
		Time: s.time.Format(time.RFC3339), Shown: s.time.Local().Format("2 Jan, 15:04:05"),
	}
}

func show(w http.ResponseWriter, templates *template.Template, name string, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := templates.ExecuteTemplate(w, name, p); err != nil {
		_, _ = fmt.Fprintln(w, "The page cannot be shown.")
	}
}
