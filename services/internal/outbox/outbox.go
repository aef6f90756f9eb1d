package outbox

import (
	"context"
	"encoding/json"
	"fmt"

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

// Append adds an event to the transaction of the change it tells of. Call the
// relay's Wake after the commit.
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
	headers, err := json.Marshal(e.Headers)
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
