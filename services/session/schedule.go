package session

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A subject of the schedule is an account (`acme`) whose policy has a deadline, or
// an agent (`acme/<agent>`) whose sessions below a version are over already and
// remain to be ended.

// scheduled is what is due for a subject.
type scheduled struct {
	subject string
	version int64
	due     time.Time
	cursor  int
	revoked int64
}

func agentSubject(agent agentRef) string { return agent.account + "/" + agent.agent.String() }

// agentOf returns the agent a subject is about, or false for an account.
func (e scheduled) agentOf() (agentRef, bool) {
	account, id, found := strings.Cut(e.subject, "/")
	agent, ok := parseID(id)
	return agentRef{account: account, agent: agent}, found && ok
}

func (e scheduled) name() string {
	if agent, ok := e.agentOf(); ok {
		return agent.String()
	}
	return "accounts/" + e.subject
}

// schedule puts, moves or (with a zero due time) cancels what is due for a subject.
func (s *store) schedule(ctx context.Context, subject string, version int64, due time.Time) error {
	at := ""
	if !due.IsZero() {
		at = strconv.FormatInt(due.UnixMilli(), 10)
	}
	_, err := s.run(ctx, s.scripts.schedule, call{
		keys: []string{dueKey, scheduleKey(subject)},
		args: []any{subject, version, at, s.cfg.fenceAge().Milliseconds()},
	})
	return err
}

// apply makes an enforcement known and schedules what follows. The order matters:
// nothing is due for a revision that the buckets do not know.
func (s *store) apply(ctx context.Context, t told) (int64, error) {
	newest, err := s.learn(ctx, t)
	if err != nil {
		return 0, err
	}
	return newest, s.schedule(ctx, t.account, t.policy.Revision, t.policy.SessionRevokeTime())
}

// listDue lists the schedule by due time, beginning after an entry.
func (s *store) listDue(ctx context.Context, after *dueCursor, limit int) ([]scheduled, error) {
	from, offset := "-inf", 0
	if after != nil {
		from, offset = strconv.FormatInt(after.Due, 10), after.Skip
	}
	members, err := s.db.ZRangeByScoreWithScores(ctx, dueKey, &redis.ZRangeBy{
		Min: from, Max: "+inf", Offset: int64(offset), Count: int64(limit),
	}).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	return s.entries(ctx, members)
}

// dueCursor is where the next page begins: after so many entries of a due time.
type dueCursor struct {
	Due  int64 `json:"d"`
	Skip int   `json:"s"`
}

// dueBy returns entries whose time is up.
func (s *store) dueBy(ctx context.Context, latest time.Time, limit int64) ([]scheduled, error) {
	members, err := s.db.ZRangeByScoreWithScores(ctx, dueKey, &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(latest.UnixMilli(), 10), Count: limit,
	}).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	return s.entries(ctx, members)
}

func (s *store) entries(ctx context.Context, members []redis.Z) ([]scheduled, error) {
	cmds, err := s.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, m := range members {
			subject, _ := m.Member.(string)
			p.HMGet(ctx, scheduleKey(subject), "v", "c", "n")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable(err)
	}
	out := make([]scheduled, 0, len(members))
	for i, m := range members {
		subject, _ := m.Member.(string)
		e := scheduled{subject: subject, due: time.UnixMilli(int64(m.Score)).UTC()}
		numbers := [3]int64{}
		for j, value := range cmds[i].(*redis.SliceCmd).Val() {
			if text, ok := value.(string); ok {
				if numbers[j], err = strconv.ParseInt(text, 10, 64); err != nil {
					return nil, unavailable(err)
				}
			}
		}
		e.version, e.cursor, e.revoked = numbers[0], int(numbers[1]), numbers[2]
		out = append(out, e)
	}
	return out, nil
}

// claim takes an entry for this copy, unless another has it.
func (s *store) claim(ctx context.Context, e scheduled, latest, now time.Time, owner string) (bool, error) {
	n, err := s.run(ctx, s.scripts.claim, call{
		keys: []string{dueKey, scheduleKey(e.subject)},
		args: []any{e.subject, latest.UnixMilli(), now.UnixMilli(), now.Add(s.cfg.SweepLease).UnixMilli(), owner},
	})
	return n == 1, err
}

// progress stores how far a claimed entry has come and renews the claim; done ends
// it. False means that the claim is lost: something newer is there, or another
// copy took over.
func (s *store) progress(ctx context.Context, e scheduled, ended int64, done bool, now time.Time, owner string) (bool, error) {
	n, err := s.run(ctx, s.scripts.progress, call{
		keys: []string{dueKey, scheduleKey(e.subject)},
		args: []any{
			e.subject, e.version, owner, e.cursor, ended,
			now.Add(s.cfg.SweepLease).UnixMilli(), flagText(done), s.cfg.fenceAge().Milliseconds(),
		},
	})
	return n == 1, err
}

// release gives a claimed entry back, to be claimed at once.
func (s *store) release(ctx context.Context, e scheduled, owner string) error {
	_, err := s.run(ctx, s.scripts.progress, call{
		keys: []string{dueKey, scheduleKey(e.subject)},
		args: []any{e.subject, e.version, owner, e.cursor, 0, 0, flagText(false), s.cfg.fenceAge().Milliseconds()},
	})
	return err
}
