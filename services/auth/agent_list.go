package auth

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// agentCursor is where a page of agents ends: the sort key of its last agent,
// text or number, and the id.
type agentCursor struct {
	Text   string `json:"t,omitempty"`
	Number int64  `json:"n,omitempty"`
	ID     string `json:"i"`
}

// after returns the cursor of a page that ends with a.
func (o agentOrder) after(a agent) agentCursor {
	c := agentCursor{ID: a.id}
	switch o.column {
	case "name_key":
		c.Text = a.nameKey
	case "email_key":
		c.Text = a.emailKey
	case "create_time":
		c.Number = sqldb.Micros(a.createTime)
	case "last_sign_in_time":
		c.Number = sqldb.Micros(a.lastSignInTime)
	}
	return c
}

// list returns at most limit agents from a cursor on (nil for the first page),
// and how many the query matches in all. The database selects and counts; the
// policy says what an mfaState means.
func (s *store) list(
	ctx context.Context, q agentQuery, p enforcement.Policy, from *agentCursor, limit int,
) (page []agent, total int64, err error) {
	where, args := q.where(p)
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM agents WHERE `+where, args...).Scan(&total)
	if err != nil {
		return nil, 0, storeError("count agents", err)
	}
	direction, beyond := ``, `>`
	if q.order.desc {
		direction, beyond = ` DESC`, `<`
	}
	if from != nil {
		where += fmt.Sprintf(` AND (%s, id) %s (?, ?)`, q.order.column, beyond)
		if q.order.numeric {
			args = append(args, from.Number, from.ID)
		} else {
			args = append(args, from.Text, from.ID)
		}
	}
	page, err = selectAgents(ctx, s.db, fmt.Sprintf(`%s ORDER BY %s%s, id%s LIMIT ?`,
		where, q.order.column, direction, direction), append(args, limit)...)
	return page, total, err
}

// where is the query as a condition.
func (q agentQuery) where(p enforcement.Policy) (condition string, args []any) {
	conditions, args := []string{`account = ?`}, []any{q.account}
	if q.mfaState != "" {
		conditions = append(conditions, sqlMFAState(p.ApplyToSSO, q.mfaState))
	}
	if q.role != "" {
		conditions, args = append(conditions, `role = ?`), append(args, string(q.role))
	}
	if q.state != "" {
		conditions, args = append(conditions, `state = ?`), append(args, string(q.state))
	}
	for _, word := range q.words {
		pattern := "%" + likeEscape(word) + "%"
		conditions = append(conditions, `(name_key LIKE ? ESCAPE '!' OR email_key LIKE ? ESCAPE '!')`)
		args = append(args, pattern, pattern)
	}
	return strings.Join(conditions, ` AND `), args
}

// selectAgents returns the agents that meet a condition.
func selectAgents(ctx context.Context, q querier, where string, args ...any) ([]agent, error) {
	rows, err := q.Query(ctx, `SELECT `+agentColumns+` FROM agents WHERE `+where, args...)
	if err != nil {
		return nil, storeError("read agents", err)
	}
	found, err := scanAgents(rows)
	return found, storeError("read agents", err)
}

// scanAgents reads agentColumns of all rows, and closes them.
func scanAgents(rows *sql.Rows) ([]agent, error) {
	defer func() { _ = rows.Close() }()
	var found []agent
	for rows.Next() {
		a, err := scanAgent(rows.Scan)
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, rows.Err()
}

// notified returns the agents an enforcement's mail goes to, by id, from after
// one id on.
func (s *store) notified(
	ctx context.Context, account string, enforceMicros int64, applyToSSO bool, after string, limit int,
) ([]agent, error) {
	return selectAgents(ctx, s.db, `account = ? AND `+sqlNotified(applyToSSO)+` AND id > ? ORDER BY id LIMIT ?`,
		account, enforceMicros, after, limit)
}

// counts is how the agents of an account stand, those who are not deactivated.
type counts struct{ covered, enrolled int64 }

func (s *store) count(ctx context.Context, account string, applyToSSO bool) (counts, error) {
	var c counts
	err := s.db.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE has_factor = TRUE) FROM agents
		WHERE account = ? AND `+sqlActive+` AND `+sqlCovered(applyToSSO), account).Scan(&c.covered, &c.enrolled)
	return c, storeError("count agents", err)
}

// inChunk is the length of every IN list: one statement for all of them, the
// last one filled up by repetition.
const inChunk = 200

// inChunks calls read with the values in parts of inChunk.
func inChunks(values []string, read func(placeholders string, args []any) error) error {
	for len(values) > 0 {
		n := min(inChunk, len(values))
		args := make([]any, inChunk)
		for i := range args {
			args[i] = values[min(i, n-1)]
		}
		if err := read(sqldb.Placeholders(inChunk), args); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// byID returns those of the agents that the account has.
func (s *store) byID(ctx context.Context, account string, ids []string) (map[string]agent, error) {
	found := make(map[string]agent, len(ids))
	err := inChunks(ids, func(placeholders string, args []any) error {
		agents, err := selectAgents(ctx, s.db, `account = ? AND id IN (`+placeholders+`)`, append([]any{account}, args...)...)
		for _, a := range agents {
			found[a.id] = a
		}
		return err
	})
	return found, err
}

// taken returns those keys of addresses that agents of the account have.
func (s *store) taken(ctx context.Context, account string, emailKeys []string) (map[string]bool, error) {
	found := make(map[string]bool)
	err := inChunks(emailKeys, func(placeholders string, args []any) error {
		agents, err := selectAgents(ctx, s.db, `account = ? AND email_key IN (`+placeholders+`)`, append([]any{account}, args...)...)
		for _, a := range agents {
			found[a.emailKey] = true
		}
		return err
	})
	return found, err
}
