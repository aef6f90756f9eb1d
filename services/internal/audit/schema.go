package audit

// Schema makes the tables. It is portable. A service copies it into a migration
// of its own as it stands.
const Schema = `CREATE TABLE audit_chains (
    account    TEXT   NOT NULL PRIMARY KEY,
    sequence   BIGINT NOT NULL,
    hash       BYTEA  NOT NULL,
    event_time BIGINT NOT NULL
);

CREATE TABLE audit_events (
    account            TEXT   NOT NULL,
    sequence           BIGINT NOT NULL,
    previous_hash      BYTEA  NOT NULL,
    hash               BYTEA  NOT NULL,
    event_time         BIGINT NOT NULL,
    actor_kind         TEXT   NOT NULL,
    actor_name         TEXT   NOT NULL,
    actor_display_name TEXT   NOT NULL,
    action             TEXT   NOT NULL,
    subject            TEXT   NOT NULL,
    result             TEXT   NOT NULL,
    error_reason       TEXT   NOT NULL,
    client_address     TEXT   NOT NULL,
    request_id         TEXT   NOT NULL,
    details            TEXT   NOT NULL,
    PRIMARY KEY (account, sequence)
);
CREATE INDEX audit_events_by_time ON audit_events (account, event_time, sequence);
CREATE INDEX audit_events_by_actor ON audit_events (account, actor_name, event_time, sequence);
CREATE INDEX audit_events_by_subject ON audit_events (account, subject, event_time, sequence);
`

// ImmutablePostgres and ImmutableSQLite refuse every change of an event. Triggers
// are what the two databases have no common language for, so a service copies
// each into a migration of its own, for that database alone.
const (
	ImmutablePostgres = `CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_events_immutable BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_chains_no_delete BEFORE DELETE ON audit_chains
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_chains_no_truncate BEFORE TRUNCATE ON audit_chains
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
`

	// ImmutableSQLite has a trigger on INSERT too: INSERT OR REPLACE deletes rows
	// without telling the triggers of DELETE.
	ImmutableSQLite = `CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE account = NEW.account AND sequence = NEW.sequence) BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_chains_no_delete BEFORE DELETE ON audit_chains BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
`
)
