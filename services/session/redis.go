package session

import (
	"context"
	"crypto/sha1" //nolint:gosec // how Redis names scripts
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script and the name Redis keeps it under.
type script struct{ source, sha string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // how Redis names scripts
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// call is one run of a script. All keys of a call are in one slot.
type call struct {
	keys []string
	args []any
}

// run runs a script once.
func (s *store) run(ctx context.Context, script script, c call) (int64, error) {
	out, err := s.runAll(ctx, script, []call{c})
	if err != nil {
		return 0, err
	}
	return out[0], nil
}

// runAll runs a script several times in one round trip (to each node, in a Redis
// Cluster). Runs are independent; an error leaves open which of them happened.
func (s *store) runAll(ctx context.Context, script script, calls []call) ([]int64, error) {
	cmds, err := s.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range calls {
			p.EvalSha(ctx, script.sha, c.keys, c.args...)
		}
		return nil
	})
	if err != nil && len(cmds) != len(calls) {
		return nil, unavailable(err)
	}
	out := make([]int64, len(calls))
	for i, cmd := range cmds {
		n, err := cmd.(*redis.Cmd).Int64()
		if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			// Redis forgot it, as it does at every start.
			n, err = s.db.Eval(ctx, script.source, calls[i].keys, calls[i].args...).Int64()
		}
		if err != nil {
			return nil, unavailable(err)
		}
		out[i] = n
	}
	return out, nil
}

// getAll reads keys of any slots; what is missing is nil.
func (s *store) getAll(ctx context.Context, keys []string) ([]*string, error) {
	cmds, err := s.db.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Get(ctx, key)
		}
		return nil
	})
	if err != nil && !isNil(err) {
		return nil, unavailable(err)
	}
	out := make([]*string, len(keys))
	for i, cmd := range cmds {
		value, err := cmd.(*redis.StringCmd).Result()
		switch {
		case isNil(err):
		case err != nil:
			return nil, unavailable(err)
		default:
			out[i] = &value
		}
	}
	return out, nil
}

// mget reads keys of one slot in one command.
func mget(ctx context.Context, db redis.Cmdable, keys ...string) ([]*string, error) {
	values, err := db.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	out := make([]*string, len(keys))
	for i, value := range values {
		if text, ok := value.(string); ok {
			out[i] = &text
		}
	}
	if len(values) != len(keys) {
		return nil, unavailable(fmt.Errorf("session: %d values for %d keys", len(values), len(keys)))
	}
	return out, nil
}

func isNil(err error) bool { return errors.Is(err, redis.Nil) }
