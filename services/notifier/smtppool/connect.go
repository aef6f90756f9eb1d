package smtppool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	gosmtp "github.com/wneessen/go-mail/smtp"
)

// ErrNoTLS says that the server offers no encryption and the settings ask for it.
var ErrNoTLS = errors.New("server offers no STARTTLS; add ?tls=none to the address to send without encryption")

// connect makes a new connection, up to being signed in.
func (p *Pool) connect(ctx context.Context) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.ConnectTimeout, errTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", p.target.addr())
	if err != nil {
		return nil, connectError(StageConnect, err)
	}
	// The protocol client knows no context: closing the connection under it is
	// what ends its calls.
	release := context.AfterFunc(ctx, func() { _ = raw.Close() })
	client, stage, err := p.introduce(ctx, raw)
	if !release() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return nil, connectError(stage, err)
	}
	return &Conn{pool: p, raw: raw, client: client}, nil
}

// introduce greets the server, encrypts and signs in.
func (p *Pool) introduce(ctx context.Context, raw net.Conn) (*gosmtp.Client, Stage, error) {
	config := &tls.Config{ServerName: p.target.host, RootCAs: p.cfg.RootCAs, MinVersion: tls.VersionTLS12}
	conn := raw
	if p.target.implicitTLS {
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, StageTLS, err //nolint:wrapcheck // connectError says where.
		}
		conn = secure
	}
	client, err := gosmtp.NewClient(conn, p.target.host)
	if err != nil {
		return nil, StageGreeting, err //nolint:wrapcheck // connectError says where.
	}
	// Addresses and headers are ASCII, so mails can pass servers without SMTPUTF8.
	client.SkipSMTPUTF8(true)
	if err := client.Hello(p.cfg.Hello); err != nil {
		return nil, StageGreeting, err //nolint:wrapcheck // connectError says where.
	}
	if !p.target.implicitTLS && !p.target.noTLS {
		offered, _ := client.Extension("STARTTLS")
		switch {
		case offered:
			if err := client.StartTLS(config); err != nil {
				return nil, StageTLS, err //nolint:wrapcheck // connectError says where.
			}
		case !p.target.plainAllowed:
			// Somebody on the way can strip the offer, so "where offered" must
			// not mean "in the clear where not" (RFC 8314, section 4.1).
			return nil, StageTLS, ErrNoTLS
		}
	}
	if p.target.user != "" {
		if err := p.signIn(client); err != nil {
			return nil, StageSignIn, err
		}
	}
	return client, "", nil
}

// signIn uses the best way that the server offers and that needs no more than a
// password. Whether a password may travel in the clear was decided before: only
// where the settings allow a connection without TLS.
func (p *Pool) signIn(client *gosmtp.Client) error {
	_, offered := client.Extension("AUTH")
	ways := map[string]bool{}
	for _, way := range strings.Fields(strings.ToUpper(offered)) {
		ways[way] = true
	}
	t := p.target
	var auth gosmtp.Auth
	switch {
	case ways["SCRAM-SHA-256"]:
		auth = gosmtp.ScramSHA256Auth(t.user, t.password)
	case ways["PLAIN"]:
		auth = gosmtp.PlainAuth("", t.user, t.password, t.host, true)
	case ways["LOGIN"]:
		auth = gosmtp.LoginAuth(t.user, t.password, t.host, true)
	default:
		return errors.New("server offers no known way to sign in")
	}
	return client.Auth(auth) //nolint:wrapcheck // connectError says where.
}
