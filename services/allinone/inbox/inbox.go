package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

const (
	// maxMails is how many mails are kept; the oldest make room.
	maxMails = 5_000
	// maxMail is how large a mail may be, in bytes.
	maxMail = 4 << 20
	// maxRecipients is what RFC 5321 section 4.5.3.1.8 asks of every server.
	maxRecipients = 100
	// suffix marks the files that hold a mail each.
	suffix = ".eml"
	// idDigits makes names of files sort by age.
	idDigits = 12
)

// summary is what the list shows of a mail. The rest stays on disk.
type summary struct {
	id      string
	to      string
	subject string
	kind    string
	eventID string
	time    time.Time
}

// Inbox takes mails until Close.
type Inbox struct {
	dir      string
	keep     int
	log      *slog.Logger
	listener net.Listener
	smtp     *gosmtp.Server
	serving  sync.WaitGroup

	mu    sync.RWMutex
	last  uint64
	mails []summary // oldest first
}

// Start takes mails on a free port on loopback, and keeps them in dir, where it
// finds those of an earlier run.
func Start(ctx context.Context, dir string, log *slog.Logger) (*Inbox, error) {
	return start(ctx, dir, maxMails, log)
}

func start(ctx context.Context, dir string, keep int, log *slog.Logger) (*Inbox, error) {
	b := &Inbox{dir: dir, keep: keep, log: log}
	if err := b.load(); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("inbox: listen: %w", err)
	}
	b.listener = listener
	b.smtp = gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &delivery{inbox: b}, nil
	}))
	b.smtp.Domain = "inbox.localhost"
	b.smtp.MaxMessageBytes = maxMail
	b.smtp.MaxRecipients = maxRecipients
	b.smtp.EnableSMTPUTF8 = true
	b.smtp.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	b.serving.Go(func() {
		if err := b.smtp.Serve(listener); err != nil {
			log.ErrorContext(ctx, "The inbox takes no more mails", "error", err)
		}
	})
	return b, nil
}

// URL is where to send mails, as TWOFOLD_SMTP_URL takes it.
func (b *Inbox) URL() string { return "smtp://" + b.listener.Addr().String() }

// Close cuts the connections and takes no more mails.
func (b *Inbox) Close() error {
	err := b.smtp.Close()
	b.serving.Wait()
	if err != nil && !errors.Is(err, gosmtp.ErrServerClosed) {
		return fmt.Errorf("inbox: close: %w", err)
	}
	return nil
}

// load finds the mails of an earlier run.
func (b *Inbox) load() error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(b.dir) // sorted by name, which is by age
	if err != nil {
		return err
	}
	for _, file := range files {
		id, ok := strings.CutSuffix(file.Name(), suffix)
		if !ok {
			// A mail that was never taken: the process ended while writing it.
			if strings.HasSuffix(file.Name(), suffix+".tmp") {
				_ = os.Remove(filepath.Join(b.dir, file.Name()))
			}
			continue
		}
		number, err := strconv.ParseUint(id, 10, 64)
		if err != nil || !file.Type().IsRegular() {
			continue // not ours
		}
		s, err := b.summarize(id)
		if err != nil {
			return err
		}
		b.mails = append(b.mails, s)
		b.last = max(b.last, number)
	}
	return b.dropOldest()
}

// store keeps a mail for one recipient. It is on disk when store returns.
func (b *Inbox) store(from, to string, raw []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := fmt.Sprintf("%0*d", idDigits, b.last+1)
	path := b.path(id)
	// The envelope goes into the file the way mail servers write it there.
	content := append(fmt.Appendf(nil, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", from, to), raw...)
	if err := os.WriteFile(path+".tmp", content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	b.last++
	s, err := b.summarize(id)
	if err != nil {
		return err
	}
	b.mails = append(b.mails, s)
	return b.dropOldest()
}

// dropOldest removes what exceeds the number of mails to keep.
func (b *Inbox) dropOldest() error {
	for len(b.mails) > b.keep {
		if err := os.Remove(b.path(b.mails[0].id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		b.mails = b.mails[1:]
	}
	return nil
}

func (b *Inbox) path(id string) string { return filepath.Join(b.dir, id+suffix) }

// summarize reads what the list shows of a mail.
func (b *Inbox) summarize(id string) (summary, error) {
	path := b.path(id)
	info, err := os.Stat(path)
	if err != nil {
		return summary{}, err
	}
	file, err := os.Open(path) //nolint:gosec // a name this package made, in its own directory
	if err != nil {
		return summary{}, err
	}
	defer file.Close() //nolint:errcheck // only read
	header := readHeader(file)
	return summary{
		id: id, time: info.ModTime().UTC(), to: header.Get("Delivered-To"), subject: decoded(header.Get("Subject")),
		kind: header.Get("Twofold-Notice"), eventID: header.Get("Twofold-Event-Id"),
	}, nil
}

// find returns a mail's summary.
func (b *Inbox) find(id string) (summary, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	i, found := slices.BinarySearchFunc(b.mails, id, func(s summary, id string) int { return strings.Compare(s.id, id) })
	if !found {
		return summary{}, false
	}
	return b.mails[i], true
}

// list returns up to limit mails, newest first: those to an address, if one is
// given, and older than a mail, if one is given. more says whether there are
// further ones.
func (b *Inbox) list(to, before string, limit int) (page []summary, more bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, s := range slices.Backward(b.mails) {
		if (before != "" && s.id >= before) || (to != "" && !strings.EqualFold(s.to, to)) {
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, s)
	}
	return page, false
}
