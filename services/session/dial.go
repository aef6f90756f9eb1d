package session

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// askLimit bounds asking the stream while a connection is made. Without an
	// answer the last one stands.
	askLimit = 300 * time.Millisecond
	// settleEvery is how often the consumer is looked at while somebody waits.
	settleEvery = 2 * time.Millisecond
)

// guard makes every connection to the store begin with asking the stream how far
// the store must be. A Redis that crashed, or was replaced by another, is met over
// a new connection; so what it says is held against a floor that was asked for
// after it came back, and no copy has to wait for its keeper's next round.
func (k *keeper) guard(db redis.UniversalClient) {
	hook := dialHook{asked: k.ask}
	switch db := db.(type) {
	case *redis.ClusterClient:
		db.OnNewNode(func(node *redis.Client) { node.AddHook(hook) })
	case *redis.Client:
		db.AddHook(hook)
	}
}

// ask raises the floor to what the stream says.
func (k *keeper) ask(ctx context.Context) {
	if _, known := k.store.floor.get(); !known {
		return // there are no verdicts yet, and the first round asks
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if reached, err := k.reached(ctx); err == nil {
		k.store.floor.raise(reached)
	}
}

// settled waits until the consumer is done with everything that is in the stream
// now.
func (k *keeper) settled(ctx context.Context) error {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	last := uint64(0)
	for {
		p, err := k.bus.ConsumerPosition(ctx, durable)
		if err != nil {
			return err
		}
		if last == 0 {
			last = p.Stream.LastSeq
		}
		if p.CaughtUp() || p.AckFloor >= last {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// dialHook calls asked after each connection is made and before it is used.
type dialHook struct {
	asked func(context.Context)
}

func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err == nil {
			h.asked(ctx)
		}
		return conn, err
	}
}

func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
