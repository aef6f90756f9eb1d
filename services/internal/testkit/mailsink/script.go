package mailsink

import (
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

// Point is a moment in the delivery of one mail.
type Point int

// The moments. AtMail has no recipient yet, so only Default can act there.
const (
	AtMail      Point = iota + 1 // answering MAIL
	AtRcpt                       // answering RCPT
	AtData                       // having read the first 64 bytes of the mail
	BeforeStore                  // having read the whole mail, final dot included
	AfterStore                   // having stored it, before answering
)

// Step is what happens to one mail. The zero value accepts it.
type Step struct {
	at    Point
	code  int
	cut   bool
	delay time.Duration
	stall bool
}

// Accept takes the mail.
func Accept() Step { return Step{} }

// Refuse answers with the code at a point. At AtData and BeforeStore it is the
// answer to the mail itself, because the final dot has been read by then.
func Refuse(at Point, code int) Step { return Step{at: at, code: code} }

// Cut closes the connection at a point, without an answer.
func Cut(at Point) Step { return Step{at: at, cut: true} }

// Stall stops answering at a point until the sender gives up or the server
// closes, and then drops the connection.
func Stall(at Point) Step { return Step{at: at, stall: true} }

// Slow waits for d at a point and then goes on as usual.
func Slow(at Point, d time.Duration) Step { return Step{at: at, delay: d} }

// errCut tells the SMTP server that nobody is there to hear its answer.
var errCut = errors.New("connection cut by script")

// session is one client's talk with the server.
type session struct {
	server        *Server
	conn          net.Conn
	number        int
	authenticated bool
	step          Step
	from          string
	to            []string
}

func (s *Server) session(c *gosmtp.Conn) (gosmtp.Session, error) {
	out := &session{server: s, conn: c.Conn(), authenticated: s.options.User == ""}
	under := out.conn
	if t, ok := under.(interface{ NetConn() net.Conn }); ok {
		under = t.NetConn()
	}
	if counted, ok := under.(*countedConn); ok {
		out.number = counted.number
	}
	return out, nil
}

// act does what the step asks for at a point; an error ends the mail there.
func (s *session) act(at Point) error {
	if s.step.at != at {
		return nil
	}
	switch {
	case s.step.cut:
		_ = s.conn.Close()
		return errCut
	case s.step.stall:
		// A sender that gives up is not noticed: the connection just hangs, as a
		// real one would.
		<-s.server.closed
		_ = s.conn.Close()
		return errCut
	case s.step.delay > 0:
		select {
		case <-time.After(s.step.delay):
		case <-s.server.closed:
		}
		return nil
	case s.step.code != 0:
		return reply(s.step.code)
	}
	return nil
}

func (s *session) Mail(from string, _ *gosmtp.MailOptions) error {
	if !s.authenticated {
		return gosmtp.ErrAuthRequired
	}
	s.from = from
	s.server.mu.Lock()
	s.step = s.server.fallback
	s.server.mu.Unlock()
	return s.act(AtMail)
}

func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.to = append(s.to, to)
	if len(s.to) == 1 {
		s.step = s.server.next(to)
	}
	return s.act(AtRcpt)
}

func (s *session) Data(r io.Reader) error {
	// A few bytes only: a cut here must come well before the final dot is read.
	first := make([]byte, 64)
	n, err := io.ReadFull(r, first)
	if err != nil {
		return err //nolint:wrapcheck // The SMTP server answers it.
	}
	if err := s.act(AtData); err != nil {
		return err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return err //nolint:wrapcheck // The SMTP server answers it.
	}
	if err := s.act(BeforeStore); err != nil {
		return err
	}
	s.server.store(Message{From: s.from, To: s.to, Raw: append(first[:n], rest...), Connection: s.number})
	return s.act(AfterStore)
}

func (s *session) Reset() { s.from, s.to, s.step = "", nil, Step{} }

func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string {
	if s.server.options.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		right := subtle.ConstantTimeCompare([]byte(user+"\x00"+password),
			[]byte(s.server.options.User+"\x00"+s.server.options.Password))
		if right != 1 {
			return gosmtp.ErrAuthFailed
		}
		s.authenticated = true
		return nil
	}), nil
}

// reply is an answer with the code.
func reply(code int) *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: code, EnhancedCode: gosmtp.EnhancedCode{code / 100, 0, 0}, Message: "scripted"}
}
