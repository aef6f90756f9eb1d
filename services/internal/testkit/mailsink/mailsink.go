package mailsink

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// Message is one mail the server took responsibility for.
type Message struct {
	From string   `json:"from"`
	To   []string `json:"to"`
	// Raw is the mail as it arrived, headers first.
	Raw []byte `json:"raw"`
	// Connection is the number of the connection it came over, from 1.
	Connection int       `json:"connection"`
	Time       time.Time `json:"time"`
}

// Options changes how the server greets.
type Options struct {
	// TLS, when set, is offered with STARTTLS, or from the first byte with
	// Implicit.
	TLS      *tls.Config
	Implicit bool
	// User and Password, when set, are demanded before MAIL.
	User, Password string
	// Addr is where to listen; empty means a free port on loopback.
	Addr string
}

// Server is the running mail server.
type Server struct {
	options  Options
	smtp     *gosmtp.Server
	listener net.Listener
	closed   chan struct{}
	serving  sync.WaitGroup

	mu          sync.Mutex
	connections int
	open        map[*countedConn]struct{}
	peak        int
	refusal     int
	scripts     map[string][]Step
	fallback    Step
	messages    []Message
	changed     chan struct{} // closed and replaced at every change
}

// Start runs a server until the test ends.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s, err := Listen(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Listen runs a server until Close, for programs that are not tests.
func Listen(options Options) (*Server, error) {
	if options.Addr == "" {
		options.Addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", options.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for mail: %w", err)
	}
	s := &Server{
		options: options, closed: make(chan struct{}), listener: listener,
		open: map[*countedConn]struct{}{}, scripts: map[string][]Step{}, changed: make(chan struct{}),
	}
	if options.TLS != nil && options.Implicit {
		listener = tls.NewListener(listener, options.TLS)
	}
	s.smtp = gosmtp.NewServer(gosmtp.BackendFunc(s.session))
	s.smtp.Domain = "mailsink.test"
	s.smtp.AllowInsecureAuth = true
	s.smtp.ErrorLog = log.New(io.Discard, "", 0)
	if options.TLS != nil && !options.Implicit {
		s.smtp.TLSConfig = options.TLS
	}
	s.serving.Go(func() { _ = s.smtp.Serve(counting{Listener: listener, server: s}) })
	return s, nil
}

// Close cuts every connection and stops listening.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
		s.mu.Unlock()
		return
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	_ = s.smtp.Close()
	// Once more by hand: Serve may not have got as far as to know its listener.
	_ = s.listener.Close()
	s.serving.Wait()
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is the server's address as TWOFOLD_SMTP_URL takes it.
func (s *Server) URL() string {
	scheme, user := "smtp://", ""
	if s.options.TLS != nil && s.options.Implicit {
		scheme = "smtps://"
	}
	if s.options.User != "" {
		user = s.options.User + ":" + s.options.Password + "@"
	}
	return scheme + user + s.Addr()
}

// Script sets what happens to the next mails for one recipient, in order. When
// the steps are used up, the default applies.
func (s *Server) Script(recipient string, steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[strings.ToLower(recipient)] = steps
}

// Default sets what happens to mails without a script; at first they are
// accepted.
func (s *Server) Default(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallback = step
}

// RefuseConnections hangs up, and greets whoever comes again with the code and
// hangs up, as a server does that is overloaded or blocks the sender; 0 ends that.
func (s *Server) RefuseConnections(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = code
	if code != 0 {
		for conn := range s.open {
			_ = conn.Conn.Close()
		}
	}
}

// Messages returns what was accepted so far, oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// To returns what was accepted for one recipient.
func (s *Server) To(recipient string) []Message {
	var out []Message
	for _, m := range s.Messages() {
		for _, to := range m.To {
			if strings.EqualFold(to, recipient) {
				out = append(out, m)
				break
			}
		}
	}
	return out
}

// Reset forgets the messages.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = nil
	s.notify()
}

// Connections counts the connections ever made.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// Open counts the connections open now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Peak is the largest number of connections that were open together.
func (s *Server) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// WaitFor returns when at least n messages have been accepted. It waits on the
// arrivals themselves, not on a clock.
func (s *Server) WaitFor(ctx context.Context, n int) ([]Message, error) {
	for {
		s.mu.Lock()
		messages, changed := append([]Message(nil), s.messages...), s.changed
		s.mu.Unlock()
		if len(messages) >= n {
			return messages, nil
		}
		select {
		case <-changed:
		case <-s.closed:
			return messages, fmt.Errorf("mail server closed with %d of %d messages", len(messages), n)
		case <-ctx.Done():
			return messages, fmt.Errorf("%d of %d messages: %w", len(messages), n, context.Cause(ctx))
		}
	}
}

// ServeHTTP lists the accepted messages as JSON, oldest first; ?to= picks one
// recipient's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	list := s.Messages()
	if to := r.URL.Query().Get("to"); to != "" {
		list = s.To(to)
	}
	if list == nil {
		list = []Message{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

// notify wakes those in WaitFor; callers hold the lock.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) store(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Time = time.Now().UTC().Round(0)
	s.messages = append(s.messages, m)
	s.notify()
}

// next takes the step for a recipient.
func (s *Server) next(recipient string) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(recipient)
	if steps := s.scripts[key]; len(steps) > 0 {
		s.scripts[key] = steps[1:]
		return steps[0]
	}
	return s.fallback
}

// counting is a listener that keeps the connection counts.
type counting struct {
	net.Listener
	server *Server
}

func (l counting) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // The SMTP server inspects it.
		}
		counted, refusal := l.server.count(conn)
		if refusal == 0 {
			return counted, nil
		}
		// The SMTP server knows no greeting but 220.
		l.server.serving.Go(func() {
			_, _ = fmt.Fprintf(counted, "%d scripted\r\n", refusal)
			_ = counted.Close()
		})
	}
}

func (s *Server) count(conn net.Conn) (*countedConn, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections++
	counted := &countedConn{Conn: conn, server: s, number: s.connections}
	s.open[counted] = struct{}{}
	s.peak = max(s.peak, len(s.open))
	return counted, s.refusal
}

type countedConn struct {
	net.Conn
	server *Server
	number int
	once   sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.server.mu.Lock()
		defer c.server.mu.Unlock()
		delete(c.server.open, c)
	})
	return c.Conn.Close() //nolint:wrapcheck // As the wrapped connection.
}
