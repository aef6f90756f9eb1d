package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/twofold-auth/twofold/services/internal/events"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// Schema makes the table. It is portable. A service copies it into its first
// migration as it stands.
const Schema = `CREATE TABLE outbox (
    id             TEXT   NOT NULL PRIMARY KEY,
    event_type     TEXT   NOT NULL,
    source         TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    account        TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    event_time     BIGINT NOT NULL,
    headers        TEXT   NOT NULL,
    payload        BYTEA  NOT NULL,
    create_time    BIGINT NOT NULL,
    publish_time   BIGINT,
    stream_seq     BIGINT,
    stream_created BIGINT
);
CREATE INDEX outbox_pending ON outbox (create_time, version, id) WHERE publish_time IS NULL;
CREATE INDEX outbox_published ON outbox (stream_created, stream_seq) WHERE publish_time IS NOT NULL;
`

// maxPayload keeps an event, with its headers, well below the 1 MiB a NATS server
// takes by default. A larger one could never be published.
const maxPayload = 512 << 10

// In the column of the headers, the trace of an event has the names it will have in
// the message. Headers of events cannot have them.
const (
	traceParent = "ce-traceparent"
	traceState  = "ce-tracestate"
)

// Append adds an event to the transaction of the change it tells of, with the trace
// of the call that ctx belongs to: the event is published by another goroutine,
// later, perhaps by another process. Call the relay's Wake after the commit.
func Append(ctx context.Context, tx *sqldb.Tx, e events.Event) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	payload, err := proto.Marshal(e.Payload)
	if err != nil {
		return fmt.Errorf("outbox: encode %s: %w", e.Type(), err)
	}
	if len(payload) > maxPayload {
		return fmt.Errorf("outbox: %s has %d bytes, at most %d can be published", e.Type(), len(payload), maxPayload)
	}
	e.SetTrace(ctx)
	headers, err := json.Marshal(headersOf(e))
	if err != nil {
		return fmt.Errorf("outbox: encode headers of %s: %w", e.Type(), err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO outbox (id, event_type, source, subject, account, version, event_time, headers, payload, create_time)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, `+tx.NowExpr()+`)`,
		e.ID, e.Type(), e.Source, e.Subject, e.Account, e.Version, sqldb.Micros(e.Time), string(headers), payload)
	if err != nil {
		return fmt.Errorf("outbox: append %s: %w", e.Type(), err)
	}
	return nil
}

// headersOf is what the column of the headers holds.
func headersOf(e events.Event) map[string]string {
	headers := maps.Clone(e.Headers)
	for name, value := range map[string]string{traceParent: e.TraceParent, traceState: e.TraceState} {
		if value == "" {
			continue
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[name] = value
	}
	return headers
}

// setHeaders is the inverse of headersOf.
func setHeaders(e *events.Event, column string) error {
	if err := json.Unmarshal([]byte(column), &e.Headers); err != nil {
		return err
	}
	e.TraceParent, e.TraceState = e.Headers[traceParent], e.Headers[traceState]
	delete(e.Headers, traceParent)
	delete(e.Headers, traceState)
	return nil
}
