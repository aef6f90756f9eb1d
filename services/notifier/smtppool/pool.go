package smtppool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed says that the pool was closed.
var ErrClosed = errors.New("mail connections are closed")

// Pool is a bounded set of connections to one mail server. It is safe for
// concurrent use.
type Pool struct {
	cfg    Config
	target target
	// slots holds one token per connection in use; it is what bounds the set.
	slots  chan struct{}
	closed chan struct{}

	mu   sync.Mutex
	idle []*Conn // the last one was used last, so the others can age
}

// New checks the settings. It connects to nothing.
func New(cfg Config) (*Pool, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t, err := parseTarget(cfg.URL)
	if err != nil {
		return nil, err
	}
	return &Pool{
		cfg: cfg, target: t, slots: make(chan struct{}, cfg.Size), closed: make(chan struct{}),
	}, nil
}

// Server names the mail server, without credentials.
func (p *Pool) Server() string { return p.target.String() }

// Acquire waits for a free connection and returns it ready for one mail:
// connected, encrypted and signed in, and asked whether it still works if it was
// idle. When connecting fails the error is a *ConnectError. The pool does not wait
// between failed attempts to connect; its caller does.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	select {
	case <-p.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case p.slots <- struct{}{}:
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a mail connection: %w", context.Cause(ctx))
	}
	conn, err := p.ready(ctx)
	if err != nil {
		<-p.slots
		return nil, err
	}
	conn.held = true
	return conn, nil
}

// ready returns an idle connection that works, or a new one.
func (p *Pool) ready(ctx context.Context) (*Conn, error) {
	for {
		conn := p.takeIdle()
		if conn == nil {
			return p.connect(ctx)
		}
		if p.cfg.Now().Sub(conn.usedAt) < p.cfg.CheckAfter || conn.works(ctx) {
			return conn, nil
		}
		conn.drop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("check a mail connection: %w", context.Cause(ctx))
		}
	}
}

func (p *Pool) takeIdle() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		last := len(p.idle) - 1
		conn := p.idle[last]
		p.idle = p.idle[:last]
		if conn.ageing.Stop() {
			return conn
		}
		// Its time is up and retire is about to look for it; not finding it,
		// retire leaves it alone, so it is closed here.
		conn.drop()
	}
	return nil
}

// release takes a connection back from its user.
func (p *Pool) release(conn *Conn) {
	defer func() { <-p.slots }()
	switch {
	case conn.broken:
		conn.drop()
		return
	case conn.mails >= p.cfg.MailsPerConnection:
		conn.quit()
		return
	}
	conn.usedAt = p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		conn.drop()
	default:
		conn.ageing = time.AfterFunc(p.cfg.IdleTimeout, func() { p.retire(conn) })
		p.idle = append(p.idle, conn)
	}
}

// retire closes a connection that was idle for too long.
func (p *Pool) retire(conn *Conn) {
	p.mu.Lock()
	found := false
	for i, other := range p.idle {
		if other == conn {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			found = true
			break
		}
	}
	p.mu.Unlock()
	if found {
		conn.quit()
	}
}

// Close says goodbye on the idle connections and lets the ones in use go when
// they are released. Acquire answers ErrClosed from now on.
func (p *Pool) Close() {
	p.mu.Lock()
	select {
	case <-p.closed:
		p.mu.Unlock()
		return
	default:
		close(p.closed)
	}
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var goodbyes sync.WaitGroup
	for _, conn := range idle {
		if conn.ageing.Stop() {
			goodbyes.Go(conn.quit)
		} else {
			conn.drop()
		}
	}
	goodbyes.Wait()
}
