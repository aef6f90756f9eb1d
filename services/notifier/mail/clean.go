package mail

import (
	"strings"
	"unicode"
)

// The longest name and the longest free text a mail repeats, in characters.
// Longer ones are cut: a mail is no place to store text.
const (
	maxName     = 120
	maxFreeText = 500
)

// oneDotLeader looks like a full stop, and no mail program takes it for one in
// an address.
const oneDotLeader = '\u2024'

// clean makes text typed by a person safe to repeat in a mail:
//
//   - one line: line breaks, tabs and every other kind of space become one space;
//   - no invisible marks: control characters and format characters (right-to-left
//     overrides among them) are dropped, so text cannot change the order in which
//     its surroundings are read (Unicode Technical Report 36, section 2.4);
//   - no links: mail programs turn anything that looks like an address into a
//     link, also in plain text. "://" is torn apart, and a full stop inside what
//     could be a host name becomes a character that only looks like one;
//   - no Markdown link: "](" is torn apart, for ticket systems that show plain
//     text as Markdown.
//
// Markup needs nothing here: the HTML layout escapes whatever it is given.
func clean(s string, limit int) string {
	s = oneLine(s)
	s = strings.ReplaceAll(s, "://", ": //")
	s = strings.ReplaceAll(s, "](", "] (")
	s = breakHostNames(s)
	return truncate(s, limit)
}

// oneLine folds white space and drops what cannot be seen.
func oneLine(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range strings.ToValidUTF8(s, "") {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Z, r), unicode.IsControl(r):
			b.WriteByte(' ')
		case r == '\u200c', r == '\u200d':
			// The zero-width joiners are spelling in Persian and in Indic
			// scripts, and hold emoji together.
			b.WriteRune(r)
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Noncharacter_Code_Point),
			unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
		case r == unicode.ReplacementChar:
		default:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// breakHostNames replaces full stops between a word and at least two more
// letters or digits, so that "evil.example" stays text, while initials
// ("J.R. Smith") and the ends of sentences stay as they are.
func breakHostNames(s string) string {
	runes := []rune(s)
	for i, r := range runes {
		if !isDot(r) || i == 0 || i+2 >= len(runes) {
			continue
		}
		if isWord(runes[i-1]) && isWord(runes[i+1]) && isWord(runes[i+2]) {
			runes[i] = oneDotLeader
		}
	}
	return string(runes)
}

// isDot knows the full stops that host names may be written with (UTS 46,
// section 2.3).
func isDot(r rune) bool {
	return r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61'
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) ||
		r == '-' || r == '_' || r == '\u200c' || r == '\u200d'
}

func truncate(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return strings.TrimRight(string(runes[:limit-1]), " ") + "…"
}
