package smtppool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/testkit/mailsink"
	"github.com/twofold-auth/twofold/services/notifier/mail"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

// The patience of these tests: long enough for a busy machine where a result is
// expected to come, short where the server never answers.
const short = 300 * time.Millisecond

func message(t testing.TB, n int) *mail.Message {
	t.Helper()
	r, err := mail.NewRenderer(mail.Config{From: "Twofold <no-reply@twofold.example>"})
	require.NoError(t, err)
	return render(t, r, n)
}

func render(t testing.TB, r *mail.Renderer, n int) *mail.Message {
	t.Helper()
	at := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
	m, err := r.Render(
		mail.Envelope{To: address(n), NoticeID: fmt.Sprintf("notice-%d", n), EventID: "event-1", Date: at},
		mail.EnforcementEnabled{
			AgentName: name(n), AccountName: "Acme", AdminName: "Grace Hopper",
			EnforceTime: at, SessionRevokeTime: at.Add(168 * time.Hour), SetUpURL: "https://twofold.example/setup",
		})
	require.NoError(t, err)
	return m
}

func address(n int) string { return fmt.Sprintf("agent-%05d@acme.example", n) }
func name(n int) string    { return fmt.Sprintf("Person N%05dX", n) }

func newPool(t testing.TB, sink *mailsink.Server, change func(*smtppool.Config)) *smtppool.Pool {
	t.Helper()
	cfg := smtppool.Config{URL: sink.URL(), Now: time.Now}
	if change != nil {
		change(&cfg)
	}
	pool, err := smtppool.New(cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func send(t testing.TB, pool *smtppool.Pool, m *mail.Message) smtppool.Outcome {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	return conn.Send(t.Context(), m)
}

// TestSend_outcomes goes through every point at which a delivery can end. What
// counts is the result; that the server stored what the result says; and that no
// connection is used again after an error.
func TestSend_outcomes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		step   mailsink.Step
		atAll  bool // the step holds for all mails, as it must before RCPT
		result smtppool.Result
		stage  smtppool.Stage
		code   int
		stored int
	}{
		{name: "accepted", step: mailsink.Accept(), result: smtppool.Sent, stage: smtppool.StageAnswer, code: 250, stored: 1},
		{name: "slow", step: mailsink.Slow(mailsink.BeforeStore, 50*time.Millisecond), result: smtppool.Sent, stage: smtppool.StageAnswer, code: 250, stored: 1},

		{name: "4xx to MAIL", step: mailsink.Refuse(mailsink.AtMail, 451), atAll: true, result: smtppool.Retryable, stage: smtppool.StageSender, code: 451},
		{name: "5xx to MAIL", step: mailsink.Refuse(mailsink.AtMail, 550), atAll: true, result: smtppool.Retryable, stage: smtppool.StageSender, code: 550},
		{name: "cut at MAIL", step: mailsink.Cut(mailsink.AtMail), atAll: true, result: smtppool.Retryable, stage: smtppool.StageSender},
		{name: "silence at MAIL", step: mailsink.Stall(mailsink.AtMail), atAll: true, result: smtppool.Retryable, stage: smtppool.StageSender},

		{name: "4xx to RCPT", step: mailsink.Refuse(mailsink.AtRcpt, 450), result: smtppool.Retryable, stage: smtppool.StageRecipient, code: 450},
		{name: "421 to RCPT", step: mailsink.Refuse(mailsink.AtRcpt, 421), result: smtppool.Retryable, stage: smtppool.StageRecipient, code: 421},
		{name: "5xx to RCPT", step: mailsink.Refuse(mailsink.AtRcpt, 550), result: smtppool.Rejected, stage: smtppool.StageRecipient, code: 550},
		{name: "sign-in demanded at RCPT", step: mailsink.Refuse(mailsink.AtRcpt, 530), result: smtppool.Retryable, stage: smtppool.StageRecipient, code: 530},
		{name: "cut at RCPT", step: mailsink.Cut(mailsink.AtRcpt), result: smtppool.Retryable, stage: smtppool.StageRecipient},
		{name: "silence at RCPT", step: mailsink.Stall(mailsink.AtRcpt), result: smtppool.Retryable, stage: smtppool.StageRecipient},

		{name: "4xx to the mail", step: mailsink.Refuse(mailsink.BeforeStore, 452), result: smtppool.Retryable, stage: smtppool.StageAnswer, code: 452},
		{name: "5xx to the mail", step: mailsink.Refuse(mailsink.BeforeStore, 554), result: smtppool.Rejected, stage: smtppool.StageAnswer, code: 554},
		{name: "cut after the dot", step: mailsink.Cut(mailsink.BeforeStore), result: smtppool.Ambiguous, stage: smtppool.StageAnswer},
		{name: "cut after storing", step: mailsink.Cut(mailsink.AfterStore), result: smtppool.Ambiguous, stage: smtppool.StageAnswer, stored: 1},
		{name: "silence after the dot", step: mailsink.Stall(mailsink.BeforeStore), result: smtppool.Ambiguous, stage: smtppool.StageAnswer},
		{name: "silence after storing", step: mailsink.Stall(mailsink.AfterStore), result: smtppool.Ambiguous, stage: smtppool.StageAnswer, stored: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sink := mailsink.Start(t, mailsink.Options{})
			pool := newPool(t, sink, func(c *smtppool.Config) { c.MessageTimeout, c.AnswerTimeout = short, short })
			if tc.atAll {
				sink.Default(tc.step)
			} else {
				sink.Script(address(1), tc.step)
			}
			out := send(t, pool, message(t, 1))
			require.Equal(t, tc.result, out.Result, "%+v", out)
			require.Equal(t, tc.stage, out.Stage)
			require.Equal(t, tc.code, out.Code)
			require.Equal(t, tc.result == smtppool.Sent, out.Err == nil)
			require.Len(t, sink.Messages(), tc.stored)

			sink.Default(mailsink.Accept())
			require.Equal(t, smtppool.Sent, send(t, pool, message(t, 2)).Result)
			connections := 2
			if tc.result == smtppool.Sent {
				connections = 1
			}
			require.Equal(t, connections, sink.Connections(), "a connection with an error is not used again")
		})
	}
}

// A cut in the middle of a mail may look like one after the dot at first, but a
// second try must recognize it, however often it happens: it never is a reason
// to give up.
func TestSendAgain_cutInTheMiddleIsRetryable(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, nil)
	sink.Default(mailsink.Cut(mailsink.AtData))
	out := send(t, pool, message(t, 1))
	require.Contains(t, []smtppool.Result{smtppool.Retryable, smtppool.Ambiguous}, out.Result)
	for range 5 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		out := conn.SendAgain(t.Context(), message(t, 1))
		conn.Release()
		require.Equal(t, smtppool.Retryable, out.Result, "%+v", out)
		require.Equal(t, smtppool.StageBody, out.Stage)
	}
	require.Empty(t, sink.Messages())
	sink.Default(mailsink.Accept())
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for n := range 2 {
		require.Equal(t, smtppool.Sent, conn.SendAgain(t.Context(), message(t, n)).Result, "the pause leaves a good connection alone")
	}
}

// A server that stops reading in the middle of a large mail keeps the final dot
// from leaving, so the result is certain.
func TestSend_stuckBodyIsRetryable(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.MessageTimeout = 2 * time.Second })
	sink.Default(mailsink.Stall(mailsink.AtData))
	m := message(t, 1)
	m.HTML = strings.Repeat("0123456789abcdef\n", 800_000)
	out := send(t, pool, m)
	require.Equal(t, smtppool.Retryable, out.Result, "%+v", out)
	require.Equal(t, smtppool.StageBody, out.Stage)
	require.Zero(t, out.Code)
}

func TestSend_refusesWhatCannotBeComposed(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, nil)
	m := message(t, 1)
	m.To = "a@acme.example>\r\nRCPT TO:<eve@evil.example"
	out := send(t, pool, m)
	require.Equal(t, smtppool.Rejected, out.Result)
	require.Equal(t, smtppool.StageCompose, out.Stage)
	require.Equal(t, smtppool.Sent, send(t, pool, message(t, 2)).Result)
	require.Equal(t, 1, sink.Connections(), "nothing was said on the connection, so it is good")
}

// Before the dot a caller that gives up stops the mail; after it, the answer is
// still taken, or every shutdown would leave ambiguous mails behind.
func TestSend_cancel(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, nil)

	sink.Script(address(1), mailsink.Slow(mailsink.AfterStore, short))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan smtppool.Outcome, 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	first := message(t, 1)
	go func() { done <- conn.Send(ctx, first) }()
	_, err = sink.WaitFor(t.Context(), 1)
	require.NoError(t, err)
	cancel()
	require.Equal(t, smtppool.Sent, (<-done).Result)
	conn.Release()

	sink.Script(address(2), mailsink.Stall(mailsink.AtRcpt))
	ctx, cancel = context.WithTimeout(t.Context(), short)
	defer cancel()
	conn, err = pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	out := conn.Send(ctx, message(t, 2))
	require.Equal(t, smtppool.Retryable, out.Result)
	require.ErrorIs(t, out.Err, context.DeadlineExceeded)
}

// Whatever stands in the way of a connection is never a recipient's fault.
func TestAcquire_serverConditions(t *testing.T) {
	for _, tc := range []struct {
		name  string
		url   func(*mailsink.Server) string
		code  int
		stage smtppool.Stage
		want  int
	}{
		{name: "busy", code: 421, stage: smtppool.StageGreeting, want: 421},
		{name: "blocked", code: 554, stage: smtppool.StageGreeting, want: 554},
		{name: "wrong password", stage: smtppool.StageSignIn, want: 535, url: func(s *mailsink.Server) string {
			return strings.Replace(s.URL(), "secret", "wrong", 1)
		}},
		{name: "no TLS off this machine", stage: smtppool.StageTLS, url: func(s *mailsink.Server) string {
			// Linux takes 0.0.0.0 for this host, but it is no loopback address.
			return strings.Replace(s.URL(), "127.0.0.1", "0.0.0.0", 1)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sink := mailsink.Start(t, mailsink.Options{User: "relay", Password: "secret"})
			sink.RefuseConnections(tc.code)
			pool := newPool(t, sink, func(c *smtppool.Config) {
				if tc.url != nil {
					c.URL = tc.url(sink)
				}
			})
			for range 20 { // more often than there are connections: none may leak
				_, err := pool.Acquire(t.Context())
				var failed *smtppool.ConnectError
				require.ErrorAs(t, err, &failed)
				require.Equal(t, tc.stage, failed.Stage)
				require.Equal(t, tc.want, failed.Code)
				require.NotContains(t, err.Error(), "secret")
			}
			require.Eventually(t, func() bool { return sink.Open() == 0 }, 10*time.Second, 10*time.Millisecond)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		sink := mailsink.Start(t, mailsink.Options{})
		pool := newPool(t, sink, nil)
		sink.Close()
		_, err := pool.Acquire(t.Context())
		var failed *smtppool.ConnectError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, smtppool.StageConnect, failed.Stage)
	})
}

func testTLS(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	return &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}, roots
}

func TestAcquire_tls(t *testing.T) {
	serverTLS, roots := testTLS(t)
	for _, implicit := range []bool{false, true} {
		t.Run(fmt.Sprintf("implicit %v", implicit), func(t *testing.T) {
			sink := mailsink.Start(t, mailsink.Options{TLS: serverTLS, Implicit: implicit, User: "relay", Password: "secret"})
			pool := newPool(t, sink, func(c *smtppool.Config) { c.RootCAs, c.CheckAfter = roots, time.Nanosecond })
			for n := range 3 {
				out := send(t, pool, message(t, n))
				require.Equal(t, smtppool.Sent, out.Result, "%+v", out)
			}
			require.Equal(t, 1, sink.Connections())

			sink.Script(address(7), mailsink.Cut(mailsink.AtData), mailsink.Accept())
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			require.Equal(t, smtppool.Retryable, conn.SendAgain(t.Context(), message(t, 7)).Result)
			conn.Release()
			conn, err = pool.Acquire(t.Context())
			require.NoError(t, err)
			require.Equal(t, smtppool.Sent, conn.SendAgain(t.Context(), message(t, 7)).Result)
			require.Equal(t, smtppool.Sent, conn.SendAgain(t.Context(), message(t, 8)).Result)
			conn.Release()

			untrusting := newPool(t, sink, nil)
			_, err = untrusting.Acquire(t.Context())
			var failed *smtppool.ConnectError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, smtppool.StageTLS, failed.Stage)
		})
	}
}

// A server that was restarted must not cost the next mail a try.
func TestAcquire_replacesDeadIdleConnections(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.CheckAfter = time.Nanosecond })
	require.Equal(t, smtppool.Sent, send(t, pool, message(t, 1)).Result)
	sink.Close()
	again := mailsink.Start(t, mailsink.Options{Addr: sink.Addr()})
	require.Equal(t, smtppool.Sent, send(t, pool, message(t, 2)).Result)
	require.Len(t, again.Messages(), 1)
}

func TestRelease_closesOldConnections(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.MailsPerConnection, c.IdleTimeout = 10, short })
	for n := range 25 {
		require.Equal(t, smtppool.Sent, send(t, pool, message(t, n)).Result)
	}
	require.Equal(t, 3, sink.Connections())
	require.Eventually(t, func() bool { return sink.Open() == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, smtppool.Sent, send(t, pool, message(t, 99)).Result)
}

func TestPool_close(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.Size = 2 })
	require.Equal(t, smtppool.Sent, send(t, pool, message(t, 1)).Result)
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	pool.Close()
	_, err = pool.Acquire(t.Context())
	require.ErrorIs(t, err, smtppool.ErrClosed)
	require.Equal(t, smtppool.Sent, held.Send(t.Context(), message(t, 2)).Result, "a mail under way may finish")
	held.Release()
	held.Release()
	require.Eventually(t, func() bool { return sink.Open() == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Error(t, held.Send(t.Context(), message(t, 3)).Err, "after Release the connection is somebody else's")
}

// Connections that hang are a loss of their own number and no more.
func TestPool_hungConnectionsDoNotStopTheOthers(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.Size = 4 })
	ctx, cancel := context.WithCancel(t.Context())
	var hung sync.WaitGroup
	for n := range 3 {
		sink.Script(address(n), mailsink.Stall(mailsink.AtRcpt))
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		m := message(t, n)
		hung.Go(func() {
			defer conn.Release()
			conn.Send(ctx, m)
		})
	}
	for n := 100; n < 300; n++ {
		require.Equal(t, smtppool.Sent, send(t, pool, message(t, n)).Result)
	}
	cancel()
	hung.Wait()
	require.Equal(t, 4, sink.Peak())
}

func TestAcquire_waitsOnlyAsLongAsItsContext(t *testing.T) {
	sink := mailsink.Start(t, mailsink.Options{})
	pool := newPool(t, sink, func(c *smtppool.Config) { c.Size = 1 })
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	_, err = pool.Acquire(ctx)
	require.ErrorIs(t, err, enough)
}

func TestNew_settings(t *testing.T) {
	for _, url := range []string{
		"", "host:25", "http://mail.example", "smtp://", "smtp://:25", "smtp://mail.example/inbox", "smtp://mail.example#x",
		"smtp://mail.example?tls=off", "smtp://mail.example?tls=none&tls=none", "smtps://mail.example?tls=none",
		"smtp://mail.example?ssl=1", "smtp://:topsecret@mail.example", "smtp://u:topsecret%zz@mail.example", "smtp://u:topsecret@mail.example:port",
	} {
		_, err := smtppool.New(smtppool.Config{URL: url, Now: time.Now})
		require.ErrorIs(t, err, smtppool.ErrConfig, url)
		require.NotContains(t, err.Error(), "topsecret")
	}
	for url, server := range map[string]string{
		"smtp://relay:topsecret@mail.example":       "smtp://mail.example:587",
		"smtps://relay:topsecret@mail.example":      "smtps://mail.example:465",
		"smtp://mail.example:2525/?tls=none":        "smtp://mail.example:2525",
		"smtp://relay:topsecret@[2001:db8::1]:2525": "smtp://[2001:db8::1]:2525",
	} {
		cfg := smtppool.Config{URL: url, Now: time.Now}
		pool, err := smtppool.New(cfg)
		require.NoError(t, err)
		require.Equal(t, server, pool.Server())
		for _, printed := range []string{fmt.Sprintf("%v", cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), cfg.LogValue().String()} {
			require.Equal(t, server, printed)
		}
	}
}
