package allinone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/twofold-auth/twofold/services/allinone/inbox"
	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/parts"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// defaultFrom is who mails in the inbox come from.
const defaultFrom = "Twofold <no-reply@twofold.localhost>"

// Suite is the whole suite, opened and not yet running.
type Suite struct {
	// URL is where REST is, and the inbox.
	URL string
	// GRPCAddr is where gRPC is, without TLS.
	GRPCAddr string
	// Demo is the demo account; nil without one.
	Demo *Demo

	process *app.Process
	parts   app.Parts
	ready   map[string]func(context.Context) error
	network *network

	// What is open, and closed in the reverse order once everything has stopped.
	closers []func()
	closing sync.Once

	embeddedNATS  *server.Server
	embeddedRedis *miniredis.Miniredis
	inbox         *inbox.Inbox

	nc    *nats.Conn
	bus   *events.Bus
	keys  *keyring.Keyring
	redis *redis.UniversalOptions
}

// Open opens the parts and builds the services. The listeners are bound when it
// returns; nothing is served before Run. What it opened is closed when Run ends,
// or by Close if there is no Run.
func Open(ctx context.Context, p *app.Process) (*Suite, error) {
	s := &Suite{process: p, ready: map[string]func(context.Context) error{}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Suite) open(ctx context.Context) (err error) {
	if s.process.Config.DataDir, err = filepath.Abs(s.process.Config.DataDir); err != nil {
		return fmt.Errorf("allinone: %w", err)
	}
	if err := os.MkdirAll(s.process.Config.DataDir, 0o700); err != nil {
		return fmt.Errorf("allinone: %w", err)
	}
	if s.network, err = newNetwork(s.process); err != nil {
		return err
	}
	s.onClose(s.network.close)
	if err := errors.Join(s.openKeys(), s.openBus(), s.openRedis(), s.openMail(ctx)); err != nil {
		return err
	}
	listener, err := listenOnLoopback(ctx, s.process.Config.HTTPAddr)
	if err != nil {
		return err
	}
	s.onClose(func() { _ = listener.Close() })
	s.URL = "http://" + listener.Addr().String()
	if s.process.Config.PublicURL == "" {
		s.process.Config.PublicURL = s.URL
	}
	return s.buildServices(ctx, listener)
}

func (s *Suite) openKeys() (err error) {
	file := s.process.Config.KeysFile
	if file != "" {
		s.keys, err = keyring.Load(file)
	} else {
		file = filepath.Join(s.process.Config.DataDir, "keys.json")
		s.keys, err = keyring.LoadOrGenerate(file)
	}
	if err != nil {
		return err
	}
	follow, err := parts.FollowKeys(s.process, s.keys, file)
	s.parts.Work = append(s.parts.Work, follow)
	return err
}

func (s *Suite) openBus() (err error) {
	url, options := s.process.Config.NATSURL.Reveal(), []nats.Option(nil)
	if url == "" {
		if s.embeddedNATS, err = startNATS(s.process.Config.DataDir); err != nil {
			return err
		}
		s.onClose(func() { s.embeddedNATS.Shutdown(); s.embeddedNATS.WaitForShutdown() })
		options = append(options, inProcess(s.embeddedNATS))
	}
	if s.nc, err = parts.NATS(url, "allinone", s.process.Log, options...); err != nil {
		return err
	}
	s.onClose(s.nc.Close)
	s.bus, err = parts.Bus(s.nc, s.process)
	return err
}

func (s *Suite) openRedis() (err error) {
	url := s.process.Config.RedisURL.Reveal()
	if url == "" {
		if s.embeddedRedis, url, err = startRedis(); err != nil {
			return err
		}
		s.onClose(s.embeddedRedis.Close)
		s.parts.Work = append(s.parts.Work, func(ctx context.Context) error { return age(ctx, s.embeddedRedis) })
	}
	s.redis, err = parts.RedisOptions(url)
	return err
}

func (s *Suite) openMail(ctx context.Context) (err error) {
	if s.process.Config.MailFrom == "" {
		s.process.Config.MailFrom = defaultFrom
	}
	if s.process.Config.SMTPURL != "" {
		return nil
	}
	s.inbox, err = inbox.Start(ctx, filepath.Join(s.process.Config.DataDir, "inbox"), s.process.Log)
	if err != nil {
		return err
	}
	s.onClose(func() { _ = s.inbox.Close() })
	s.process.Config.SMTPURL = app.Secret(s.inbox.URL())
	return nil
}

// database opens the schema of a service, and brings it up to date.
func (s *Suite) database(ctx context.Context, schema string, migrations fs.FS) (*sqldb.DB, error) {
	url := s.process.Config.DatabaseURL.Reveal()
	if url == "" {
		url = "sqlite:" + s.process.Config.DataDir
	}
	db, err := parts.Database(ctx, url, schema, migrations)
	if err != nil {
		return nil, fmt.Errorf("allinone: database of %s: %w", schema, err)
	}
	s.onClose(func() { _ = db.Close() })
	s.ready[schema] = db.Ping
	return db, nil
}

func (s *Suite) onClose(f func()) { s.closers = append(s.closers, f) }

// Close closes what is open. Run does so by itself.
func (s *Suite) Close() {
	s.closing.Do(func() {
		for i := len(s.closers) - 1; i >= 0; i-- {
			s.closers[i]()
		}
	})
}

// Run serves until ctx ends or a part fails, and runs more tasks beside.
func (s *Suite) Run(ctx context.Context, beside ...app.Task) error {
	defer s.Close()
	s.parts.Work, s.parts.Ready = append(s.parts.Work, beside...), s.Ready
	return s.process.Run(ctx, s.parts)
}

// Ready returns nil when every part can do its work.
func (s *Suite) Ready(ctx context.Context) error {
	for name, check := range s.ready {
		if err := check(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// AwaitReady waits until every part can do its work, or ctx ends.
func (s *Suite) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("allinone: not ready: %w", err)
		case <-tick.C:
		}
	}
}

// pages are what the gateway serves besides the API.
func (s *Suite) pages() map[string]http.Handler {
	if s.inbox == nil {
		return nil
	}
	return map[string]http.Handler{"/inbox": s.inbox.Handler(), "/inbox/": s.inbox.Handler()}
}

// HasInbox reports whether mails go to the inbox rather than to a mail server.
func (s *Suite) HasInbox() bool { return s.inbox != nil }
