package notifier

import (
	"context"
	"sync"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// committer runs small changes of several workers in one transaction: while one
// commit is written to disk, the changes that come in wait and share the next.
// Every mail needs two changes that must be on disk before anything else happens,
// and a disk can do only so many commits a second.
type committer struct {
	db *sqldb.DB

	mu      sync.Mutex
	waiting []*change

	// committing is held by the worker that commits for all.
	committing sync.Mutex
}

// change is one statement.
type change struct {
	query   string
	args    []any
	done    bool
	changed int64
	err     error
}

// do runs a statement and returns, once it is committed, how many rows it changed.
// It is done even if ctx ends meanwhile.
func (c *committer) do(ctx context.Context, query string, args ...any) (int64, error) {
	mine := &change{query: query, args: args}
	c.mu.Lock()
	c.waiting = append(c.waiting, mine)
	c.mu.Unlock()

	c.committing.Lock()
	defer c.committing.Unlock()
	if !mine.done { // nobody has committed it while we waited
		c.mu.Lock()
		all := c.waiting
		c.waiting = nil
		c.mu.Unlock()
		c.commit(ctx, all)
	}
	return mine.changed, mine.err
}

func (c *committer) commit(ctx context.Context, all []*change) {
	// It is not only for the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	err := c.db.InTx(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, one := range all {
			res, err := tx.Exec(ctx, one.query, one.args...)
			if err != nil {
				return err
			}
			if one.changed, err = res.RowsAffected(); err != nil {
				return err
			}
		}
		return nil
	})
	for _, one := range all {
		one.done, one.err = true, err
	}
}
