package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/keyring"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// KeyUse is how many values of one kind are under one key.
type KeyUse struct {
	Kind string
	// Key is the key's name; empty if the values do not say.
	Key    string
	Values int64
	// Sealed values can be made anew; the others are keyed hashes, which need what
	// they are hashes of, and so their key, until they are gone.
	Sealed bool
	// Unreadable values are damaged, or in a place they were not made for, or their
	// key is not in the keys file. Examples name up to three.
	Unreadable int64
	Examples   []string
	// Agents is whose recovery codes these are.
	Agents int64
	// Latest is when the newest keyed hash was made, and Until when the last of them
	// is forgotten by itself. They are zero where nobody knows.
	Latest, Until time.Time
}

// maxExamples bounds what is named of what is wrong.
const maxExamples = 3

// keyUses gathers KeyUses while values come by.
type keyUses struct {
	keys *keyring.Keyring
	all  map[[2]string]*KeyUse
}

// of returns where a value counts, and why it cannot be read if its key is unknown.
func (u *keyUses) of(kind string, value []byte) (*KeyUse, error) {
	name, err := keyring.KeyOf(value)
	if err == nil {
		err = u.keys.CanRead(value)
	}
	use := u.all[[2]string{kind, name}]
	if use == nil {
		use = &KeyUse{Kind: kind, Key: name}
		u.all[[2]string{kind, name}] = use
	}
	use.Values++
	return use, err
}

func (u *KeyUse) unreadable(example string) {
	u.Unreadable++
	if len(u.Examples) < maxExamples && !slices.Contains(u.Examples, example) {
		u.Examples = append(u.Examples, example)
	}
}

// Count reads every value that names a key, and says what is under which: sealed
// values are opened for that.
func (r *Reencryption) Count(ctx context.Context) ([]KeyUse, error) {
	uses := &keyUses{keys: r.store.keys, all: map[[2]string]*KeyUse{}}
	for _, kind := range r.store.sealedKinds() {
		err := r.eachSealed(ctx, kind, func(page []sealedRow) error {
			for _, row := range page {
				use, _ := uses.of(kind.name, row.sealed)
				use.Sealed = true
				if _, err := r.store.open(kind.purpose, row.agent, row.id, row.sealed); err != nil {
					use.unreadable(row.agent.name().String())
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, count := range []func(context.Context, *keyUses) error{r.countCodes, r.countRequests, r.countPasswords} {
		if err := count(ctx, uses); err != nil {
			return nil, err
		}
	}
	var sorted []KeyUse
	for _, use := range uses.all {
		sorted = append(sorted, *use)
	}
	slices.SortFunc(sorted, func(a, b KeyUse) int {
		return cmp.Or(-cmp.Compare(strconv.FormatBool(a.Sealed), strconv.FormatBool(b.Sealed)),
			strings.Compare(a.Kind, b.Kind), strings.Compare(a.Key, b.Key))
	})
	return sorted, nil
}

// hashedPage calls do with each row of a query that takes an id to begin after and
// a limit, and returns how many there were.
func (r *Reencryption) hashedPage(
	ctx context.Context, what, query string, after []any, do func(scan func(...any) error) error,
) (n int, err error) {
	rows, err := r.store.db.Query(ctx, query, append(after, r.batch)...)
	if err != nil {
		return 0, storeError("read "+what, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := do(rows.Scan); err != nil {
			return 0, storeError("read "+what, err)
		}
		n++
	}
	return n, storeError("read "+what, rows.Err())
}

func (r *Reencryption) countCodes(ctx context.Context, uses *keyUses) error {
	const kind = "recovery codes"
	agentID, position := "", 0
	// All codes of an agent are of one set, made at once.
	counted := map[string]string{}
	for {
		n, err := r.hashedPage(ctx, kind, `SELECT c.agent_id, c.position, c.generation, c.mac, a.account
			FROM recovery_codes c JOIN agents a ON a.id = c.agent_id
			WHERE (c.agent_id, c.position) > (?, ?) ORDER BY c.agent_id, c.position LIMIT ?`,
			[]any{agentID, position}, func(scan func(...any) error) error {
				var generation string
				var a agent
				var mac []byte
				if err := scan(&a.id, &position, &generation, &mac, &a.account); err != nil {
					return err
				}
				agentID = a.id
				use, unknown := uses.of(kind, mac)
				if unknown != nil {
					use.unreadable(a.name().String())
				}
				if counted[use.Key] != a.id {
					counted[use.Key] = a.id
					use.Agents++
				}
				// The time of its making names a set.
				if made, err := strconv.ParseInt(generation, 10, 64); err == nil {
					use.madeAt(sqldb.FromMicros(made))
				}
				return nil
			})
		if err != nil || n == 0 {
			return err
		}
	}
}

func (u *KeyUse) madeAt(t time.Time) {
	if t.After(u.Latest) {
		u.Latest = t
	}
}

// forgottenAfter says that a value is forgotten some time after it was made.
func (u *KeyUse) forgottenAfter(lifetime time.Duration) { u.Until = u.Latest.Add(lifetime) }

func (r *Reencryption) countRequests(ctx context.Context, uses *keyUses) error {
	const kind = "request ids"
	scope, id := "", ""
	for {
		n, err := r.hashedPage(ctx, kind, `SELECT scope, request_id, fingerprint, create_time FROM request_ids
			WHERE (scope, request_id) > (?, ?) AND create_time > `+r.store.db.NowExpr()+` - ? ORDER BY scope, request_id LIMIT ?`,
			[]any{scope, id, idempotency.Lifetime.Microseconds()}, func(scan func(...any) error) error {
				var sum []byte
				var made int64
				if err := scan(&scope, &id, &sum, &made); err != nil {
					return err
				}
				use, unknown := uses.of(kind, sum)
				if unknown != nil {
					use.unreadable(scope + " " + id)
				}
				use.madeAt(sqldb.FromMicros(made))
				use.forgottenAfter(idempotency.Lifetime)
				return nil
			})
		if err != nil || n == 0 {
			return err
		}
	}
}

func (r *Reencryption) countPasswords(ctx context.Context, uses *keyUses) error {
	const kind = "counts of wrong passwords"
	id := ""
	for {
		n, err := r.hashedPage(ctx, kind, `SELECT id, update_time FROM password_failures
			WHERE id > ? AND update_time > `+r.store.db.NowExpr()+` - ? ORDER BY id LIMIT ?`,
			[]any{id, passwordMemory.Microseconds()}, func(scan func(...any) error) error {
				var made int64
				if err := scan(&id, &made); err != nil {
					return err
				}
				mac, err := base64.RawURLEncoding.DecodeString(id)
				if err != nil {
					mac = nil // counted as under no key
				}
				use, unknown := uses.of(kind, mac)
				if unknown != nil {
					use.unreadable(id)
				}
				use.madeAt(sqldb.FromMicros(made))
				use.forgottenAfter(passwordMemory)
				return nil
			})
		if err != nil || n == 0 {
			return err
		}
	}
}
