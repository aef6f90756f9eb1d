package events

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// take hands messages to handle as they come, up to size of them. When ctx ends it
// asks for no more, but what the server has sent by then is still handed over, to be
// given back: a message lost on its way would be nobody's for as long as AckWait.
func (b *Bus) take(ctx context.Context, consumer jetstream.Consumer, size int, handle func(<-chan jetstream.Msg)) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(size), jetstream.StopAfter(size),
		jetstream.PullExpiry(pullWait), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	taken := make(chan jetstream.Msg)
	go func() {
		defer close(taken)
		if err = pass(ctx, messages, taken, size); ctx.Err() != nil && b.nc.IsConnected() {
			err = drain(messages, taken)
		}
	}()
	handle(taken)
	return err
}

// pass passes messages on until there were enough, ctx ends or the server fails.
func pass(ctx context.Context, messages jetstream.MessagesContext, taken chan<- jetstream.Msg, size int) error {
	for range size {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		taken <- msg
	}
	return nil
}

// drain tells the server to send no more, and passes on what has been sent.
func drain(messages jetstream.MessagesContext, taken chan<- jetstream.Msg) error {
	messages.Drain()
	for {
		msg, err := messages.Next(jetstream.NextMaxWait(settleTimeout))
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		taken <- msg
	}
}
