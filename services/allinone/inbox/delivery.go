package inbox

import (
	"fmt"
	"io"

	gosmtp "github.com/emersion/go-smtp"
)

// delivery is one connection that hands mails over.
type delivery struct {
	inbox *Inbox
	from  string
	to    []string
}

// Mail implements gosmtp.Session.
func (d *delivery) Mail(from string, _ *gosmtp.MailOptions) error {
	d.from = from
	return nil
}

// Rcpt implements gosmtp.Session.
func (d *delivery) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}

// Data implements gosmtp.Session. Each recipient gets a copy, as from any mail
// server; what was accepted is on disk.
func (d *delivery) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err //nolint:wrapcheck // the SMTP server answers it
	}
	for _, to := range d.to {
		if err := d.inbox.store(d.from, to, raw); err != nil {
			d.inbox.log.Error("The inbox cannot keep a mail", "error", err)
			// Transient: the sender tries again (RFC 5321 section 4.2.3).
			return &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 3, 1}, Message: fmt.Sprintf("cannot store the mail for %s", to)}
		}
	}
	return nil
}

// Reset implements gosmtp.Session.
func (d *delivery) Reset() { d.from, d.to = "", nil }

// Logout implements gosmtp.Session.
func (d *delivery) Logout() error { return nil }
