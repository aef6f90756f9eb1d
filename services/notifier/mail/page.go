package mail

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// page is a mail in words, before it has a form. Both parts are made from it.
type page struct {
	Name    string // the person's, may be empty
	Account string
	Subject string
	// Preview is what a list of mails shows after the subject.
	Preview string
	Title   string
	Opening []string
	Facts   []fact
	// Action is what the button says; URL is what it opens.
	Action  string
	URL     string
	Closing []string
}

type fact struct{ Label, Value string }

// page runs the blocks of a kind's words. Values hold no line break, so blank
// lines and line ends are always the template's own.
func (r *Renderer) page(kind Kind, values map[string]any) (*page, error) {
	blocks := map[string]string{}
	for _, name := range []string{"subject", "preview", "title", "opening", "facts", "action", "closing"} {
		var b strings.Builder
		if err := r.words[kind].ExecuteTemplate(&b, name, values); err != nil {
			return nil, fmt.Errorf("block %q: %w", name, err)
		}
		blocks[name] = b.String()
	}
	p := &page{
		Account: fmt.Sprint(values["AccountName"]), Name: fmt.Sprint(values["AgentName"]),
		Subject: joinLines(blocks["subject"]), Preview: joinLines(blocks["preview"]), Title: joinLines(blocks["title"]),
		Opening: paragraphs(blocks["opening"]), Action: joinLines(blocks["action"]), Closing: paragraphs(blocks["closing"]),
	}
	for _, line := range strings.Split(blocks["facts"], "\n") {
		// The label is the template's own and comes first, so the first colon
		// is never one of the value's.
		if label, value, found := strings.Cut(strings.TrimSpace(line), ": "); found {
			p.Facts = append(p.Facts, fact{Label: label, Value: value})
		}
	}
	return p, nil
}

// paragraphs splits at blank lines.
func paragraphs(block string) []string {
	var out []string
	for _, part := range strings.Split(block, "\n\n") {
		if line := joinLines(part); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func joinLines(block string) string { return strings.Join(strings.Fields(block), " ") }

// textWidth keeps plain text readable, also when quoted once (RFC 3676, section
// 4.2 advises 78 or less).
const textWidth = 72

// text is the plain-text part. It says all that the HTML part says.
func (p *page) text() string {
	var b strings.Builder
	b.WriteString(p.Title + "\n" + strings.Repeat("=", utf8.RuneCountInString(p.Title)) + "\n\n")
	b.WriteString(p.Greeting() + "\n\n")
	for _, paragraph := range p.Opening {
		b.WriteString(wrap(paragraph) + "\n\n")
	}
	widest := 0
	for _, f := range p.Facts {
		widest = max(widest, utf8.RuneCountInString(f.Label))
	}
	for _, f := range p.Facts {
		pad := strings.Repeat(" ", widest-utf8.RuneCountInString(f.Label))
		b.WriteString("  " + f.Label + ":" + pad + " " + f.Value + "\n")
	}
	// The address stands alone on its line, so that mail programs link all of it.
	b.WriteString("\n" + p.Action + ":\n" + p.URL + "\n\n")
	for _, paragraph := range p.Closing {
		b.WriteString(wrap(paragraph) + "\n\n")
	}
	// "-- " starts a signature, which mail programs fold away when quoting.
	b.WriteString("-- \n" + wrap(p.Footer()) + "\n")
	return b.String()
}

// Greeting is the first line of both parts.
func (p *page) Greeting() string {
	if p.Name == "" {
		return "Hello,"
	}
	return "Hello " + p.Name + ","
}

// Footer says why the mail came and what it will never ask for.
func (p *page) Footer() string {
	return "You get this mail because you are an agent of " + p.Account + ". It concerns the safety of your " +
		"sign-in. Nobody from Twofold or " + p.Account + " will ever ask you for your password or for a code."
}

func wrap(paragraph string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(paragraph) {
		width := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+width > textWidth:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += width
	}
	return b.String()
}
