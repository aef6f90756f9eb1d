package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twofold-auth/twofold/services/auth"
)

// report is what is under which key; keys begins with the primary one.
type report struct {
	keys []string
	uses []auth.KeyUse
}

func (r report) primary() string { return r.keys[0] }

// remains reports whether something cannot be read, or is sealed under an older key.
func (r report) remains() bool {
	return slices.ContainsFunc(r.uses, func(u auth.KeyUse) bool {
		return u.Unreadable > 0 || u.Sealed && u.Key != r.primary()
	})
}

func (r report) print(out io.Writer) error {
	// What goes wrong in between is an error of Flush, too.
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "KIND\tKEY\tVALUES\tUNREADABLE\t")
	for _, u := range r.uses {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", u.Kind, cmp.Or(u.Key, "?"), u.Values, u.Unreadable, r.note(u))
	}
	for _, u := range r.uses {
		if u.Unreadable > 0 {
			_, _ = fmt.Fprintf(table, "unreadable %s: %s\n", u.Kind, strings.Join(u.Examples, ", "))
		}
	}
	_, _ = fmt.Fprintf(table, "primary: %s\n", r.primary())
	for _, key := range r.keys[1:] {
		_, _ = fmt.Fprintf(table, "%s: %s\n", key, r.verdict(key))
	}
	return table.Flush()
}

// note says what becomes of values by themselves, or why they are as they are.
func (r report) note(u auth.KeyUse) string {
	var notes []string
	switch {
	case u.Key == "":
		notes = append(notes, "damaged")
	case !slices.Contains(r.keys, u.Key):
		notes = append(notes, "the key is not in the keys file")
	case u.Sealed && u.Key != r.primary():
		notes = append(notes, "to be made anew")
	}
	if u.Agents > 0 {
		notes = append(notes, fmt.Sprintf("of %d agents, the newest of %s; gone when used or made anew", u.Agents, day(u.Latest)))
	}
	if !u.Until.IsZero() {
		notes = append(notes, "forgotten by "+u.Until.UTC().Format(time.RFC3339))
	}
	return strings.Join(notes, "; ")
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// verdict says whether a key can go.
func (r report) verdict(key string) string {
	var needed []string
	for _, u := range r.uses {
		if u.Key == key {
			needed = append(needed, fmt.Sprintf("%d %s", u.Values, u.Kind))
		}
	}
	if len(needed) == 0 {
		return "nothing is under it"
	}
	return "needed by " + strings.Join(needed, ", ")
}
