// Package mailsink is a mail server for tests. It stores what it accepts and
// misbehaves on demand, for each recipient apart: it refuses, stalls, and cuts the
// connection at every point of a delivery that matters to a sender.
//
// It owns no knowledge of Twofold's mails: package mail makes them, smtppool
// sends them, and tests read what arrived here. The protocol itself is
// emersion/go-smtp's, so that a sender is tested against somebody else's reading
// of the standard.
package mailsink
