package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// chunk is how many events are verified at a time.
const chunk = 1000

// Head is the end of a chain at some moment. Kept elsewhere, it finds what the
// chain alone can not show: that its end was cut off, or all of it written anew.
type Head struct {
	Service, Account string
	Sequence         int64
	Hash             string // hexadecimal
}

// Broken is the first event of a chain that is not as it was written.
type Broken struct {
	Service, Account string
	Sequence         int64
	Problem          string
}

// String names the event.
func (b *Broken) String() string {
	return fmt.Sprintf("%s: %s", name(b.Account, b.Service, b.Sequence), b.Problem)
}

// Accounts returns the accounts a service has chains of.
func Accounts(ctx context.Context, db *sqldb.DB) ([]string, error) {
	rows, err := db.Query(ctx, `SELECT account FROM audit_chains UNION SELECT account FROM audit_events ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("audit: read accounts: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err below has what there is to say
	var accounts []string
	for rows.Next() {
		var account string
		if err := rows.Scan(&account); err != nil {
			return nil, fmt.Errorf("audit: read accounts: %w", err)
		}
		accounts = append(accounts, account)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("audit: read accounts: %w", err)
	}
	return accounts, nil
}

// Verify verifies the chain of an account, and that it still holds the heads that
// are known of it. Events may be appended meanwhile. An error means that nothing
// could be found out.
func Verify(ctx context.Context, db *sqldb.DB, account string, known ...Head) (Head, *Broken, error) {
	v := &verifier{service: db.Schema(), account: account, previous: noHash(), known: map[int64]string{}}
	for _, head := range known {
		if earlier, twice := v.known[head.Sequence]; twice && earlier != head.Hash {
			return Head{}, v.broken(head.Sequence, "two different hashes of it are known"), nil
		}
		v.known[head.Sequence] = head.Hash
	}
	broken, err := v.run(ctx, db)
	if err != nil {
		return Head{}, nil, fmt.Errorf("audit: verify %s: %w", account, err)
	}
	head := Head{Service: v.service, Account: account, Sequence: v.sequence, Hash: hex.EncodeToString(v.previous)}
	return head, broken, nil
}

// verifier goes along one chain.
type verifier struct {
	service, account string
	sequence         int64 // of the last event that was as it should be
	previous         []byte
	known            map[int64]string
}

func (v *verifier) broken(sequence int64, problem string) *Broken {
	return &Broken{Service: v.service, Account: v.account, Sequence: sequence, Problem: problem}
}

func (v *verifier) run(ctx context.Context, db *sqldb.DB) (*Broken, error) {
	// The end as it is now; what is appended after this is not looked at. One
	// statement, so that head and events are of one moment.
	var end, last int64
	var hash []byte
	err := db.QueryRow(ctx, `SELECT COALESCE(MAX(h.sequence), 0), COALESCE(MAX(h.last), 0) FROM (
			SELECT sequence, 0 AS last FROM audit_chains WHERE account = ?
			UNION ALL SELECT 0, MAX(sequence) FROM audit_events WHERE account = ?) h`, v.account, v.account).Scan(&end, &last)
	if err != nil {
		return nil, err
	}
	if broken, err := v.follow(ctx, db, max(end, last)); broken != nil || err != nil {
		return broken, err
	}
	for sequence := range v.known {
		if sequence > v.sequence {
			return v.broken(v.sequence+1, "it is missing; the chain was known to be longer"), nil
		}
	}
	// The head's hash, from the head itself if it has not moved on, or else from
	// the event that followed.
	switch {
	case end < last:
		return v.broken(end+1, "it was added behind the end of the chain"), nil
	case end == 0:
		return nil, nil
	}
	err = db.QueryRow(ctx, `SELECT CASE WHEN c.sequence = ? THEN c.hash ELSE
			(SELECT previous_hash FROM audit_events e WHERE e.account = c.account AND e.sequence = ?) END
		FROM audit_chains c WHERE c.account = ?`, end, end+1, v.account).Scan(&hash)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(hash, v.previous) {
		return v.broken(end, "the end of the chain has another hash"), nil
	}
	return nil, nil
}

// follow verifies the events up to one.
func (v *verifier) follow(ctx context.Context, db *sqldb.DB, end int64) (*Broken, error) {
	for v.sequence < end {
		events, err := list(ctx, db, `account = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
			v.account, v.sequence, end, chunk)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return v.broken(v.sequence+1, "it is missing"), nil
		}
		for _, e := range events {
			if problem := v.check(e); problem != "" {
				return v.broken(v.sequence+1, problem), nil
			}
			v.sequence, v.previous = e.sequence, e.hash
		}
	}
	return nil, nil
}

// check returns what is wrong with the next event, or "".
func (v *verifier) check(e *event) string {
	known, isKnown := v.known[v.sequence+1]
	switch {
	case e.sequence != v.sequence+1:
		return "it is missing"
	case !bytes.Equal(e.previous, v.previous):
		return "it does not follow the event before it"
	case !bytes.Equal(e.hash, e.sum(v.service)):
		return "its content does not have its hash"
	case isKnown && known != hex.EncodeToString(e.hash):
		return "its hash was another one"
	}
	return ""
}
