package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"regexp"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Headers of our own. Clients and tests may rely on them.
const (
	HeaderNotice  = "Twofold-Notice"
	HeaderEventID = "Twofold-Event-Id"
)

// ErrMessage says that a Message cannot be sent as it is.
var ErrMessage = errors.New("bad message")

// token is what may stand in our own headers and in a message id.
var token = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

// Message is one mail to one person.
type Message struct {
	// To is the bare address of the only recipient, with an ASCII domain.
	To     string
	ToName string
	From   netmail.Address

	Subject string
	Text    string
	HTML    string

	Kind Kind
	// EventID is the id of the event that caused the mail.
	EventID string
	// MessageID is the Message-ID without angle brackets. It follows from the
	// notice, so every try to send the notice carries the same one and a mailbox
	// can see two tries for what they are.
	MessageID string
	Date      time.Time
}

// Bytes returns the mail as it goes to the mail server. The same message always
// gives the same bytes.
func (m *Message) Bytes() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(
		gomail.WithNoDefaultUserAgent(),
		// Quoted-printable is safe on servers without 8BITMIME and keeps lines
		// short whatever is in them.
		gomail.WithEncoding(gomail.EncodingQP),
		gomail.WithBoundary(m.boundary()),
	)
	msg.FromMailAddress(&m.From)
	msg.ToMailAddress(&netmail.Address{Name: m.ToName, Address: m.To})
	msg.Subject(m.Subject)
	msg.SetDateWithValue(m.Date)
	msg.SetMessageIDWithValue(m.MessageID)
	msg.SetGenHeader(HeaderNotice, string(m.Kind))
	msg.SetGenHeader(HeaderEventID, m.EventID)
	// RFC 3834, section 5: keeps vacation responders quiet.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)

	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("compose mail: %w", err)
	}
	return b.Bytes(), nil
}

// check refuses what could add a header or a recipient. Render makes no such
// message; this stands for those who fill in the struct themselves.
func (m *Message) check() error {
	for _, address := range []string{m.To, m.From.Address} {
		ascii, err := asciiAddress(address)
		if err != nil {
			return err
		}
		if ascii != address {
			return fmt.Errorf("%w: domain not in ASCII form", ErrAddress)
		}
	}
	for what, text := range map[string]string{"subject": m.Subject, "recipient name": m.ToName, "sender name": m.From.Name} {
		if oneLine(text) != text {
			return fmt.Errorf("%w: %s is not one line of visible text", ErrMessage, what)
		}
	}
	id, domain, _ := bytes.Cut([]byte(m.MessageID), []byte("@"))
	if !token.Match(id) || !hostName.Match(domain) {
		return fmt.Errorf("%w: bad message id", ErrMessage)
	}
	if !token.MatchString(m.EventID) || !token.MatchString(string(m.Kind)) {
		return fmt.Errorf("%w: bad event id or kind", ErrMessage)
	}
	if m.Date.IsZero() {
		return fmt.Errorf("%w: no date", ErrMessage)
	}
	return nil
}

// boundary separates the parts. It follows from the message id, so that a second
// try sends the same bytes, and it is a hash, so that no name can imitate it
// (the id is not known before the mail is written). It holds only characters that
// need no quotes in a header.
func (m *Message) boundary() string {
	sum := sha256.Sum256([]byte(m.MessageID))
	return "_twofold_" + hex.EncodeToString(sum[:16])
}
