package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// maxText bounds, in bytes, everything that is kept. What people may write is
// shorter by the rules of the requests.
const maxText = 2048

// Entry is what a service says of a change or of a refusal. Address and request
// id are the call's, and are taken from the context.
type Entry struct {
	// Account is the bare id of the account whose log this belongs to.
	Account string
	// Actor is who did it. It is empty for somebody who proved nothing.
	Actor *eventv1.Actor
	// Action is what was done, such as `agent.resetMfa`.
	Action string
	// Subject is the resource name of what it was done to.
	Subject string
	// Denied is the reason of a refusal, one of package errs; empty for a change
	// that was made.
	Denied string
	// Details is what else there is to know. Never a secret, and never an address
	// of mail: an event can not be taken back when a person asks to be forgotten.
	Details map[string]string
}

// Append adds an event to the transaction of the change it tells of, after
// everything else that may wait: it holds up whoever changes the account next.
func Append(ctx context.Context, tx *sqldb.Tx, entry Entry) error {
	if !resource.IsAccountID(entry.Account) || entry.Action == "" {
		return errors.New("audit: an event needs an account and an action")
	}
	head, err := lock(ctx, tx, entry.Account)
	if err != nil {
		return fmt.Errorf("audit: lock the chain of %s: %w", entry.Account, err)
	}
	e := newEvent(ctx, entry)
	if e.at, err = tx.Now(ctx); err != nil {
		return err
	}
	if e.at.Before(head.at) {
		// The clock of a database may be set back; the order of a chain is not.
		e.at = head.at
	}
	e.sequence, e.previous = head.sequence+1, head.hash
	e.hash = e.sum(tx.Schema())
	if err := insert(ctx, tx, e); err != nil {
		return fmt.Errorf("audit: append %s: %w", e.action, err)
	}
	res, err := tx.Exec(ctx, `UPDATE audit_chains SET sequence = ?, hash = ?, event_time = ? WHERE account = ? AND sequence = ?`,
		e.sequence, e.hash, sqldb.Micros(e.at), e.account, head.sequence)
	if err != nil {
		return fmt.Errorf("audit: append %s: %w", e.action, err)
	}
	if changed, err := res.RowsAffected(); err != nil || changed != 1 {
		return errors.Join(fmt.Errorf("audit: %d heads of %s moved, want 1", changed, e.account), err)
	}
	return nil
}

// lock locks the head of an account's chain and returns what it holds of the last
// event.
func lock(ctx context.Context, tx *sqldb.Tx, account string) (head event, err error) {
	var micros int64
	err = tx.QueryRow(ctx, `INSERT INTO audit_chains (account, sequence, hash, event_time) VALUES (?, 0, ?, 0)
		ON CONFLICT (account) DO UPDATE SET sequence = audit_chains.sequence RETURNING sequence, hash, event_time`,
		account, noHash()).Scan(&head.sequence, &head.hash, &micros)
	head.at = sqldb.FromMicros(micros)
	return head, err
}

func newEvent(ctx context.Context, entry Entry) *event {
	caller := authz.FromContext(ctx)
	e := &event{
		account: entry.Account, action: entry.Action, subject: clean(entry.Subject),
		actorKind: entry.Actor.GetKind().String(), actorName: clean(entry.Actor.GetName()),
		actorCalled: clean(entry.Actor.GetDisplayName()),
		result:      resultOK, reason: entry.Denied, requestID: clean(caller.RequestID),
		details: make(map[string]string, len(entry.Details)),
	}
	if entry.Denied != "" {
		e.result = resultDenied
	}
	if caller.ClientAddress.IsValid() {
		e.address = caller.ClientAddress.String()
	}
	for key, value := range entry.Details {
		e.details[clean(key)] = clean(value)
	}
	return e
}

// clean is text that every database stores as it is, and of a length that none
// minds.
func clean(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") // a cut may have hit the middle of a character
}

const columns = `account, sequence, previous_hash, hash, event_time, actor_kind, actor_name, actor_display_name,
	action, subject, result, error_reason, client_address, request_id, details`

func insert(ctx context.Context, tx *sqldb.Tx, e *event) error {
	details, err := json.Marshal(e.details)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_events (`+columns+`) VALUES (`+sqldb.Placeholders(15)+`)`,
		e.account, e.sequence, e.previous, e.hash, sqldb.Micros(e.at), e.actorKind, e.actorName, e.actorCalled,
		e.action, e.subject, e.result, e.reason, e.address, e.requestID, string(details))
	return err
}

// scan reads columns.
func scan(scan func(...any) error) (*event, error) {
	var e event
	var micros int64
	var details string
	err := scan(&e.account, &e.sequence, &e.previous, &e.hash, &micros, &e.actorKind, &e.actorName, &e.actorCalled,
		&e.action, &e.subject, &e.result, &e.reason, &e.address, &e.requestID, &details)
	if err != nil {
		return nil, err
	}
	e.at = sqldb.FromMicros(micros)
	if err := json.Unmarshal([]byte(details), &e.details); err != nil {
		// Whoever wrote that was not Append; the hash will say so.
		e.details = map[string]string{"unreadable": details}
	}
	return &e, nil
}
