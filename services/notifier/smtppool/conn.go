package smtppool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	gosmtp "github.com/wneessen/go-mail/smtp"

	"github.com/twofold-auth/twofold/services/notifier/mail"
)

const (
	// checkTimeout ends asking an idle connection whether it still works. A
	// server that needs longer is not worth the wait: a new connection is.
	checkTimeout = 5 * time.Second
	// goodbyeTimeout ends waiting for the answer to QUIT.
	goodbyeTimeout = 2 * time.Second
	// drainTime is how long the answer to a final dot may still come after the
	// caller gave up. Leaving at once would make mails ambiguous at every
	// shutdown; most answers come within moments.
	drainTime = 5 * time.Second
)

var (
	errTimeout = errors.New("mail server took too long")
	errGone    = errors.New("mail server ended the connection")
	errUsed    = errors.New("connection was used after an error or after its release")
)

// Conn is a connection that is ready for one mail after the other. It belongs to
// one user at a time.
type Conn struct {
	pool   *Pool
	raw    net.Conn
	client *gosmtp.Client

	held   bool // somebody has acquired it
	broken bool // an error happened; it must not be used again
	mails  int  // how many it carried
	usedAt time.Time
	ageing *time.Timer // closes it when it stays idle
}

// Release gives the connection back. It is closed if anything went wrong on it.
func (c *Conn) Release() {
	if !c.held {
		return
	}
	c.held = false
	c.pool.release(c)
}

// Send hands one mail to the server. If ctx ends before the final dot, the mail
// is not sent; after it, the answer may still come within a few seconds.
func (c *Conn) Send(ctx context.Context, message *mail.Message) Outcome {
	return c.send(ctx, message, 0)
}

// SendAgain is Send for a mail whose last outcome was ambiguous. It holds back the
// final dot for a moment to see whether the server is still there. A server that
// hangs up in the middle of a mail looks at first as if it had done so after the
// dot, because the network takes a whole mail before the server has read it; the
// pause tells the two apart, so that such mails do not run out of tries.
func (c *Conn) SendAgain(ctx context.Context, message *mail.Message) Outcome {
	return c.send(ctx, message, c.pool.cfg.CautionTime)
}

func (c *Conn) send(ctx context.Context, message *mail.Message, caution time.Duration) Outcome {
	if !c.held || c.broken {
		return failure(StageCompose, errUsed)
	}
	content, err := message.Bytes()
	if err != nil {
		// Trying again changes nothing, and nothing was said on the connection.
		return Outcome{Result: Rejected, Stage: StageCompose, Err: fmt.Errorf("compose: %w", err)}
	}
	c.mails++
	// Until the very end, every way out of here leaves a connection in an
	// unknown state.
	c.broken = true
	body, out := c.transmit(ctx, message, content, caution)
	if out.Err != nil {
		return out
	}
	return c.finish(ctx, body)
}

// transmit sends everything but the final dot.
func (c *Conn) transmit(ctx context.Context, message *mail.Message, content []byte, caution time.Duration) (*gosmtp.DataCloser, Outcome) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.pool.cfg.MessageTimeout, errTimeout)
	defer cancel()
	release := context.AfterFunc(ctx, c.drop)
	body, stage, err := c.upToDot(message, content, caution)
	if !release() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return nil, failure(stage, err)
	}
	return body, Outcome{}
}

func (c *Conn) upToDot(message *mail.Message, content []byte, caution time.Duration) (*gosmtp.DataCloser, Stage, error) {
	// go-mail writes addresses as given, so the angle brackets are ours. Both
	// addresses were checked by Message.Bytes and cannot break out of them.
	if err := c.client.Mail("<" + message.From.Address + ">"); err != nil {
		return nil, StageSender, err //nolint:wrapcheck // failure says where.
	}
	if err := c.client.Rcpt("<" + message.To + ">"); err != nil {
		return nil, StageRecipient, err //nolint:wrapcheck // failure says where.
	}
	writer, err := c.client.Data()
	if err != nil {
		return nil, StageBody, err //nolint:wrapcheck // failure says where.
	}
	body, ok := writer.(*gosmtp.DataCloser)
	if !ok {
		return nil, StageBody, fmt.Errorf("unexpected body writer %T", writer)
	}
	if _, err := body.Write(content); err != nil {
		return nil, StageBody, err //nolint:wrapcheck // failure says where.
	}
	// All of the mail leaves now, so that the dot is all that is left to write
	// and a failure to write it cannot be mistaken.
	if err := c.client.Text.W.Flush(); err != nil {
		return nil, StageBody, err //nolint:wrapcheck // failure says where.
	}
	if caution > 0 {
		if err := c.stillThere(caution); err != nil {
			return nil, StageBody, err
		}
	}
	return body, StageBody, nil
}

// stillThere listens for a while. A healthy server has nothing to say before the
// final dot; so whatever comes, an end or words, means that it gave up.
func (c *Conn) stillThere(patience time.Duration) error {
	if err := c.raw.SetReadDeadline(c.pool.cfg.Now().Add(patience)); err != nil {
		return err //nolint:wrapcheck // failure says where.
	}
	_, err := c.client.Text.R.Peek(1)
	var timeout net.Error
	switch {
	case err == nil:
		if _, _, err := c.client.Text.ReadResponse(0); err != nil {
			return err //nolint:wrapcheck // failure says where.
		}
		return errGone
	case errors.As(err, &timeout) && timeout.Timeout():
		return c.raw.SetReadDeadline(time.Time{}) //nolint:wrapcheck // failure says where.
	default:
		return fmt.Errorf("%w (%w)", errGone, err)
	}
}

// finish writes the final dot and waits for the answer.
func (c *Conn) finish(ctx context.Context, body *gosmtp.DataCloser) Outcome {
	wait, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), c.pool.cfg.AnswerTimeout, errTimeout)
	defer cancel()
	inTime := context.AfterFunc(wait, c.drop)
	stay := context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, cancel) })
	defer stay()

	// The writer inside is closed, and not the DataCloser around it, because that
	// one hides whether the dot could be written.
	if err := body.WriteCloser.Close(); err != nil {
		return failure(StageBody, err)
	}
	code, words, err := c.client.Text.ReadResponse(2)
	stopped := inTime()
	if err == nil {
		// Whatever becomes of the connection now, this mail is the server's.
		c.broken = !stopped
		return Outcome{Result: Sent, Stage: StageAnswer, Code: code, Reply: oneLine(words)}
	}
	if code, _ := answer(err); code >= 400 && code <= 599 {
		return failure(StageAnswer, err)
	}
	switch {
	case wait.Err() != nil:
		err = context.Cause(wait)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errGone
	}
	return Outcome{Result: Ambiguous, Stage: StageAnswer, Err: fmt.Errorf("no answer to the final dot: %w", err)}
}

// works asks an idle connection whether it still does.
func (c *Conn) works(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	release := context.AfterFunc(ctx, c.drop)
	err := c.client.Noop()
	return release() && err == nil
}

// quit says goodbye and closes.
func (c *Conn) quit() {
	late := time.AfterFunc(goodbyeTimeout, c.drop)
	defer late.Stop()
	_ = c.client.Quit()
	c.drop()
}

// drop closes without a word.
func (c *Conn) drop() { _ = c.raw.Close() }
