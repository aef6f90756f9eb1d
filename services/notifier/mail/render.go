package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	netmail "net/mail"
	"net/url"
	"reflect"
	"strings"
	texttemplate "text/template"
	"time"
)

//go:embed templates
var templates embed.FS

// ErrContent says that the data of a mail cannot be rendered.
var ErrContent = errors.New("bad mail content")

// Envelope is what a mail carries beside its content.
type Envelope struct {
	// To is the recipient's address.
	To string
	// NoticeID is the notice's own id; the Message-ID follows from it.
	NoticeID string
	// EventID is the id of the event that caused the notice.
	EventID string
	// Date is when the notice was made, the same for every try.
	Date time.Time
}

// Config says how mails are made.
type Config struct {
	// From is the sender, "no-reply@example.com" or "Acme <no-reply@example.com>".
	From string
	// Location is the time zone of the times in mails; nil means UTC.
	Location *time.Location
}

// Renderer makes messages. It is safe for concurrent use.
type Renderer struct {
	from     netmail.Address
	domain   string
	location *time.Location
	words    map[Kind]*texttemplate.Template
	html     *htmltemplate.Template
}

// NewRenderer parses all templates, so that a broken one stops the start.
func NewRenderer(cfg Config) (*Renderer, error) {
	from, err := netmail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("%w: sender %q: %w", ErrAddress, cfg.From, err)
	}
	if from.Address, err = asciiAddress(from.Address); err != nil {
		return nil, fmt.Errorf("sender %q: %w", cfg.From, err)
	}
	from.Name = oneLine(from.Name)
	r := &Renderer{from: *from, location: cfg.Location, words: map[Kind]*texttemplate.Template{}}
	_, r.domain, _ = strings.Cut(from.Address, "@")
	if r.location == nil {
		r.location = time.UTC
	}
	for _, kind := range Kinds() {
		name := strings.ToLower(string(kind)) + ".tmpl"
		source, err := fs.ReadFile(templates, "templates/"+name)
		if err != nil {
			return nil, fmt.Errorf("words of %s: %w", kind, err)
		}
		// A misspelled field must fail the tests, not print "<no value>".
		r.words[kind], err = texttemplate.New(name).Option("missingkey=error").Parse(string(source))
		if err != nil {
			return nil, fmt.Errorf("words of %s: %w", kind, err)
		}
	}
	r.html, err = htmltemplate.ParseFS(templates, "templates/layout.html.tmpl")
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	return r, nil
}

// Render makes the mail that tells content to the person in the envelope.
func (r *Renderer) Render(env Envelope, content Content) (*Message, error) {
	n := content.notice()
	values, err := r.values(n, content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.kind, err)
	}
	p, err := r.page(n.kind, values)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.kind, err)
	}
	if p.URL, err = webAddress(n.link); err != nil {
		return nil, fmt.Errorf("%s: %w", n.kind, err)
	}
	to, err := asciiAddress(env.To)
	if err != nil {
		return nil, err
	}
	if !token.MatchString(env.NoticeID) {
		return nil, fmt.Errorf("%w: bad notice id", ErrMessage)
	}
	var html strings.Builder
	if err := r.html.Execute(&html, p); err != nil {
		return nil, fmt.Errorf("%s: %w", n.kind, err)
	}
	m := &Message{
		To: to, ToName: p.Name, From: r.from,
		Subject: p.Subject, Text: p.text(), HTML: html.String(),
		Kind: n.kind, EventID: env.EventID, MessageID: env.NoticeID + "@" + r.domain, Date: env.Date,
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// values turns content into what templates may print. It walks over all fields,
// so that a field added later is cleaned like the others and nobody can forget
// to; links are left out, because templates place none.
func (r *Renderer) values(n notice, content Content) (map[string]any, error) {
	layout := "Monday, 2 January 2006 at 15:04 MST"
	if n.seconds {
		layout = "Monday, 2 January 2006 at 15:04:05 MST"
	}
	values := map[string]any{}
	v := reflect.ValueOf(content)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch field := v.Field(i).Interface().(type) {
		case string:
			values[name] = clean(field, maxName)
		case FreeText:
			values[name] = clean(string(field), maxFreeText)
		case time.Time:
			values[name] = ""
			if !field.IsZero() {
				values[name] = field.In(r.location).Format(layout)
			}
		case bool, int:
			values[name] = field
		case Link:
		default:
			return nil, fmt.Errorf("%w: field %s has a type without a rule", ErrContent, name)
		}
	}
	for name, value := range n.more {
		values[name] = value
	}
	// Sentences need a subject even where a name is missing.
	for name, instead := range map[string]string{"AccountName": "your account", "AdminName": "An administrator"} {
		if values[name] == "" {
			values[name] = instead
		}
	}
	return values, nil
}

// webAddress lets only absolute web addresses into a mail.
func webAddress(link Link) (string, error) {
	u, err := url.Parse(string(link))
	if err != nil {
		// The address may hold a one-time token, so it is not repeated here.
		return "", fmt.Errorf("%w: link cannot be parsed", ErrContent)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("%w: link is not an absolute web address", ErrContent)
	}
	address := u.String()
	if oneLine(address) != address || strings.ContainsAny(address, " <>\"") {
		return "", fmt.Errorf("%w: link holds characters that belong escaped", ErrContent)
	}
	return address, nil
}
