package smtppool_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gomail "github.com/wneessen/go-mail"

	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
	"github.com/twofold-auth/twofold/services/notifier/mail"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

// In 2016 a certificate authority sent thousands of mails that each held the
// addresses of the recipients before: one buffer, reused in the loop. So this
// looks at every mail of a long run over the real connections, under the race
// detector, for anybody else's name or address.
func TestPool_noMailHoldsAnothersData(t *testing.T) {
	const mails, connections = 5000, 8
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.Size = connections })
	r, err := mail.NewRenderer(mail.Config{From: "Twofold <no-reply@twofold.example>"})
	require.NoError(t, err)

	var next atomic.Int64
	var senders sync.WaitGroup
	for range connections * 2 { // more senders than connections, so that they change hands
		senders.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= mails {
					return
				}
				if out := send(t, pool, render(t, r, n)); out.Result != smtppool.Sent {
					t.Errorf("mail %d: %+v", n, out)
				}
			}
		})
	}
	senders.Wait()

	got, err := sink.WaitFor(t.Context(), mails)
	require.NoError(t, err)
	require.Len(t, got, mails)
	require.LessOrEqual(t, sink.Peak(), connections)
	seen := map[string]bool{}
	for _, m := range got {
		require.Len(t, m.To, 1)
		number := strings.TrimSuffix(strings.TrimPrefix(m.To[0], "agent-"), "@acme.example")
		require.False(t, seen[number], "sent twice")
		seen[number] = true
		// Soft line breaks of quoted-printable could hide a name.
		raw := strings.ReplaceAll(string(m.Raw), "=\r\n", "")
		requireOnly(t, raw, "agent-", number, 1)
		requireOnly(t, raw, "Person N", number, 3) // header, text, HTML
	}
}

// requireOnly checks that whatever follows the mark is the one person's number.
func requireOnly(t *testing.T, raw, mark, number string, atLeast int) {
	t.Helper()
	found := 0
	for rest := raw; ; found++ {
		_, after, more := strings.Cut(rest, mark)
		if !more {
			break
		}
		require.Equal(t, number, after[:len(number)], "somebody else's data")
		rest = after
	}
	require.GreaterOrEqual(t, found, atLeast, "%q is in the mail", mark)
}

// BenchmarkSend compares sending through the pool with go-mail's own client, one
// kept-open connection for each of eight senders, at the same server.
func BenchmarkSend(b *testing.B) {
	const senders = 8
	b.Run("smtppool", func(b *testing.B) {
		sink := mailsink.Start(b, mailsink.Options{})
		pool := newPool(b, sink, func(c *smtppool.Config) { c.Size = senders })
		m := message(b, 1)
		spread(b, senders, func() func() error {
			return func() error { return send(b, pool, m).Err }
		})
		require.Len(b, sink.Messages(), b.N)
	})
	b.Run("go-mail", func(b *testing.B) {
		sink := mailsink.Start(b, mailsink.Options{})
		host, port := "127.0.0.1", 0
		for _, digit := range sink.Addr()[strings.LastIndex(sink.Addr(), ":")+1:] {
			port = port*10 + int(digit-'0')
		}
		m := message(b, 1)
		spread(b, senders, func() func() error {
			client, err := gomail.NewClient(host, gomail.WithPort(port), gomail.WithTLSPolicy(gomail.NoTLS), gomail.WithTimeout(time.Minute))
			require.NoError(b, err)
			require.NoError(b, client.DialWithContext(b.Context()))
			return func() error {
				msg := gomail.NewMsg()
				if err := msg.From(m.From.Address); err != nil {
					return err
				}
				if err := msg.To(m.To); err != nil {
					return err
				}
				msg.Subject(m.Subject)
				msg.SetBodyString(gomail.TypeTextPlain, m.Text)
				msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
				return client.Send(msg)
			}
		})
		require.Len(b, sink.Messages(), b.N)
	})
}

// spread shares b.N calls among the senders; each sender makes its own.
func spread(b *testing.B, senders int, start func() func() error) {
	b.Helper()
	sends := make([]func() error, senders)
	for i := range sends {
		sends[i] = start()
	}
	var done atomic.Int64
	var wait sync.WaitGroup
	b.ResetTimer()
	for _, send := range sends {
		wait.Go(func() {
			for done.Add(1) <= int64(b.N) {
				if err := send(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}
