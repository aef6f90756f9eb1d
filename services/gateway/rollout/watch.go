package rollout

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// verifyInterval is how often a watching caller's session is verified again.
const verifyInterval = 5 * time.Second

// WatchRollout implements RolloutServiceServer.
func (s *Server) WatchRollout(req *rolloutv1.WatchRolloutRequest, stream grpc.ServerStreamingServer[rolloutv1.WatchRolloutResponse]) error {
	ctx := stream.Context()
	account, err := accountOf(ctx, req.GetName())
	if err != nil {
		return err
	}
	limit := time.NewTimer(s.Limit)
	defer limit.Stop()
	verified := s.Now()
	poll := s.join(ctx, account)
	defer s.leave(account, poll)
	var sent *rolloutv1.Rollout
	for {
		latest := poll.latest.Load()
		if s.Now().Sub(verified) >= verifyInterval {
			if err := authz.VerifyAgain(ctx, s.VerifySession); err != nil {
				return err
			}
			verified = s.Now()
		}
		if latest.err != nil {
			return latest.err
		}
		if latest.rollout != nil && !sameBesidesReadTime(sent, latest.rollout) {
			if err := stream.Send(&rolloutv1.WatchRolloutResponse{Rollout: latest.rollout}); err != nil {
				return err
			}
			sent = latest.rollout
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return errs.Unavailable(nil).WithMessage("The gateway is stopping. Call again.")
		case <-limit.C:
			return nil
		case <-latest.outdated:
		}
	}
}

// polls are the polls of the accounts whose rollouts are watched.
type polls struct {
	mu sync.Mutex
	of map[string]*poll
}

// poll reads the rollout of one account for everybody who watches it, so that a
// reading costs the services the same for one watcher and for many.
type poll struct {
	watchers int // under the lock of the polls
	latest   atomic.Pointer[reading]
	stop     context.CancelFunc
	stopped  chan struct{}
}

// reading is a rollout as it was read, or why it was not; neither is there before
// the first is done. outdated is closed when there is a later one.
type reading struct {
	rollout  *rolloutv1.Rollout
	err      error
	outdated chan struct{}
}

// join returns the poll of an account for one more watcher, who leaves it later.
func (s *Server) join(ctx context.Context, account string) *poll {
	s.polls.mu.Lock()
	defer s.polls.mu.Unlock()
	p := s.polls.of[account]
	if p == nil {
		// It outlasts the watcher who was first, and ends with the one who is last.
		pollCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		p = &poll{stop: stop, stopped: make(chan struct{})}
		p.latest.Store(&reading{outdated: make(chan struct{})})
		s.polls.of[account] = p
		go s.run(pollCtx, account, p)
	}
	p.watchers++
	return p
}

func (s *Server) leave(account string, p *poll) {
	s.polls.mu.Lock()
	p.watchers--
	last := p.watchers == 0
	if last {
		s.polls.forget(account, p)
	}
	s.polls.mu.Unlock()
	if last {
		p.stop()
		<-p.stopped
	}
}

// forget makes whoever comes next begin a poll of their own. It is called with the
// lock held.
func (ps *polls) forget(account string, p *poll) {
	if ps.of[account] == p {
		delete(ps.of, account)
	}
}

// run reads until the last watcher has left, or until a reading fails, which all
// watchers hear.
func (s *Server) run(ctx context.Context, account string, p *poll) {
	defer close(p.stopped)
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		rollout, err := s.read(ctx, account)
		if err != nil {
			s.polls.mu.Lock()
			s.polls.forget(account, p)
			s.polls.mu.Unlock()
		}
		previous := p.latest.Swap(&reading{rollout: rollout, err: err, outdated: make(chan struct{})})
		close(previous.outdated)
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func sameBesidesReadTime(a, b *rolloutv1.Rollout) bool {
	if a == nil {
		return false
	}
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	a.ReadTime, b.ReadTime = nil, nil
	return proto.Equal(a, b)
}
