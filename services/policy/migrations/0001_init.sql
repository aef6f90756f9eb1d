-- +goose Up

-- The policy in force. A change locks this row.
CREATE TABLE mfa_policies (
    account           TEXT NOT NULL PRIMARY KEY,
    revision          BIGINT NOT NULL,
    enforced          BOOLEAN NOT NULL,
    grace_period      BIGINT NOT NULL, -- microseconds
    apply_to_sso      BOOLEAN NOT NULL,
    enforce_time      BIGINT NOT NULL, -- 0 while not enforced
    update_time       BIGINT NOT NULL,
    ended_revoke_time BIGINT NOT NULL  -- the deadline of the enforcement that was switched off last, or 0
);

-- Read in pages when the session store began anew.
CREATE INDEX mfa_policies_enforced ON mfa_policies (account) WHERE enforced;

-- Every policy as it was saved, the one in force too. Rows never change.
CREATE TABLE mfa_policy_revisions (
    account              TEXT NOT NULL REFERENCES mfa_policies (account),
    revision             BIGINT NOT NULL,
    enforced             BOOLEAN NOT NULL,
    grace_period         BIGINT NOT NULL,
    apply_to_sso         BOOLEAN NOT NULL,
    enforce_time         BIGINT NOT NULL,
    update_time          BIGINT NOT NULL,
    actor_kind           TEXT NOT NULL,
    actor_name           TEXT NOT NULL,
    actor_display_name   TEXT NOT NULL,
    previous_revoke_time BIGINT NOT NULL, -- at a re-enabling: the deadline before; else 0
    PRIMARY KEY (account, revision)
);

CREATE TABLE request_ids (
    scope       TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    method      TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    response    BYTEA,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX request_ids_create_time ON request_ids (create_time);

CREATE TABLE outbox (
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

-- +goose Down
DROP TABLE outbox;
DROP TABLE request_ids;
DROP TABLE mfa_policy_revisions;
DROP TABLE mfa_policies;
