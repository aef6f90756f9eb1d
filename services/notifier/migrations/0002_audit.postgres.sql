-- +goose Up

-- Who changed what, and what was refused: for each account a chain of events, and
-- where it ends.
CREATE TABLE audit_chains (
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

-- What has been written stays as it is.
-- +goose StatementBegin
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
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
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_chains_no_truncate ON audit_chains;
DROP TRIGGER audit_chains_no_delete ON audit_chains;
DROP TRIGGER audit_events_no_truncate ON audit_events;
DROP TRIGGER audit_events_immutable ON audit_events;
DROP FUNCTION audit_append_only();
DROP TABLE audit_events;
DROP TABLE audit_chains;
