package story

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// difference is what a story stops at. It travels as a panic from wherever it is
// found to Play, so that the acts read as what happens and not as error handling.
type difference struct{ error }

// fail ends the play.
func (p *play) fail(format string, arguments ...any) {
	panic(difference{fmt.Errorf(format, arguments...)})
}

// step begins the next step.
func (p *play) step(format string, arguments ...any) {
	p.steps++
	p.sentence = fmt.Sprintf(format, arguments...)
	_, _ = fmt.Fprintf(p.Out, "\n%3d  %s\n", p.steps, p.sentence)
}

// saw tells what was found to be as promised.
func (p *play) saw(format string, arguments ...any) {
	_, _ = fmt.Fprintf(p.Out, "     ✓ %s\n", fmt.Sprintf(format, arguments...))
}

// must ends the play when a call that should work did not.
func (p *play) must(what string, err error) {
	if err != nil {
		p.fail("%s: expected it to work, got %w", what, err)
	}
}

// refused checks that a call was refused, and why.
func (p *play) refused(what string, err error, code, reason string) {
	got := refusedAs(err)
	switch {
	case err == nil:
		p.fail("%s: expected %s %s, but it worked", what, code, reason)
	case got == nil:
		p.fail("%s: expected %s %s, got %w", what, code, reason, err)
	case got.Code != code || got.Reason != reason:
		p.fail("%s: expected %s %s, got %w", what, code, reason, err)
	case got.Message == "":
		p.fail("%s: expected a message for people, got none", what)
	}
	p.saw("%s is refused: %s", what, reason)
}

// equal checks a value.
func equal[T comparable](p *play, what string, want, got T) {
	if want != got {
		p.fail("%s: expected %v, got %v", what, want, got)
	}
}

// same checks that two lists hold the same, in any order.
func same(p *play, what string, want, got []string) {
	want, got = slices.Clone(want), slices.Clone(got)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		p.fail("%s: expected %q, got %q", what, want, got)
	}
}

// present checks that there is something.
func present[T any](p *play, what string, got *T) *T {
	if got == nil {
		p.fail("%s: expected one, got none", what)
	}
	return got
}

const (
	// patience is how long what happens in the background may take.
	patience = 30 * time.Second
	// glance is how often one looks.
	glance = 50 * time.Millisecond
)

// eventually looks again until done, or until patience is at an end.
func (p *play) eventually(what string, done func() (is bool, now string)) {
	for deadline := p.Now().Add(patience); ; {
		is, now := done()
		if is {
			return
		}
		if p.Now().After(deadline) {
			p.fail("%s: expected it within %s, got %s", what, patience, now)
		}
		p.must("waiting", pause(p.ctx, glance))
	}
}

// arrives waits for somebody's next mail, which has to be of a kind and say some
// things. Nothing else may have arrived.
func (p *play) arrives(to *person, kind string, saying ...string) {
	want := append(slices.Clone(to.mails), kind)
	var mails []Mail
	p.eventually(fmt.Sprintf("the mail %s to %s", kind, to.email), func() (bool, string) {
		mails = p.mailsOf(to)
		return len(mails) >= len(want), fmt.Sprintf("%q", kindsOf(mails))
	})
	p.exactly(to, want, mails)
	to.mails = want
	for _, m := range mails {
		if m.Kind != kind {
			continue
		}
		text := strings.Join(strings.Fields(m.Text), " ")
		for _, words := range append(saying, p.displayName, "http") {
			if !strings.Contains(text, words) {
				p.fail("the mail %s to %s: expected it to say %q, got %q", kind, to.email, words, text)
			}
		}
	}
	for _, m := range mails {
		if m.Kind == kind {
			_, _ = fmt.Fprintf(p.Out, "     ✉ to %s: %s\n", to.email, m.Subject)
			return
		}
	}
}

// exactly checks which mails somebody got.
func (p *play) exactly(to *person, want []string, mails []Mail) {
	want, got := slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(kindsOf(mails)))
	if slices.Equal(want, got) {
		return
	}
	var list []string
	for _, m := range mails {
		list = append(list, fmt.Sprintf("%s at %s for event %s (%s)", m.Kind, clock(m.Time), m.EventID, m.ID))
	}
	p.fail("the mails to %s: expected %q, got %q", to.email, want, list)
}

func (p *play) mailsOf(to *person) []Mail {
	mails, err := p.Mail(p.ctx, to.email)
	p.must("reading the mails to "+to.email, err)
	return mails
}

func kindsOf(mails []Mail) (kinds []string) {
	for _, m := range mails {
		kinds = append(kinds, m.Kind)
	}
	return kinds
}

// noMail checks that nobody was told anything that the story does not know of.
func (p *play) noMail() {
	p.step("Nobody got a mail that is not in this story.")
	for _, someone := range append(p.everybody(), p.rival) {
		p.exactly(someone, someone.mails, p.mailsOf(someone))
	}
	p.saw("each mail went to whom it concerns, once")
}
