-- +goose Up

-- What is known of each account's enforcement: the newest of its events. It is
-- the fence by which a late event and a notice of the past are told from what
-- holds now, so its rows stay.
CREATE TABLE enforcements (
    account            TEXT    NOT NULL PRIMARY KEY,
    revision           BIGINT  NOT NULL,
    enforced           BOOLEAN NOT NULL,
    enforce_time       BIGINT  NOT NULL, -- names the enforcement; 0 while there is none
    session_revoke_time BIGINT NOT NULL, -- 0 while there is none
    apply_to_sso       BOOLEAN NOT NULL,
    change_time        BIGINT  NOT NULL, -- when this revision was saved
    changed_by         TEXT    NOT NULL, -- who saved it, as JSON
    enabled_by         TEXT    NOT NULL  -- who switched enforcement on, as JSON
);

-- One event that is told to many agents. The row is the whole progress: any copy
-- of the service goes on from its cursor.
CREATE TABLE fan_outs (
    account         TEXT   NOT NULL,
    policy_revision BIGINT NOT NULL,
    kind            TEXT   NOT NULL,
    event_id        TEXT   NOT NULL,
    enforce_time    BIGINT NOT NULL, -- 0 for ENFORCEMENT_LIFTED
    last_agent      TEXT   NOT NULL, -- the bare id of the last agent seen
    agents          BIGINT NOT NULL, -- how many were seen
    notices         BIGINT NOT NULL, -- how many notices were made
    create_time     BIGINT NOT NULL,
    complete_time   BIGINT NOT NULL, -- 0 until then, and for ever when superseded
    due_time        BIGINT,          -- when it may be claimed; a lease lies in the future; NULL when over
    lease_owner     TEXT   NOT NULL,
    PRIMARY KEY (account, policy_revision)
);
CREATE INDEX fan_outs_due ON fan_outs (due_time) WHERE due_time IS NOT NULL;
CREATE INDEX fan_outs_enforcement ON fan_outs (account, enforce_time);

-- One mail to one agent.
CREATE TABLE notices (
    id                 TEXT    NOT NULL PRIMARY KEY,
    account            TEXT    NOT NULL,
    kind               TEXT    NOT NULL,
    event_id           TEXT    NOT NULL,
    agent              TEXT    NOT NULL, -- the bare id
    email              TEXT    NOT NULL,
    display_name       TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    priority           INTEGER NOT NULL, -- 0 before 1
    facts              TEXT    NOT NULL, -- what the event said, as JSON; the terms of enforcement are read when sending
    policy_revision    BIGINT  NOT NULL, -- of enforcement notices; else 0
    enforce_time       BIGINT  NOT NULL, -- the enforcement it belongs to, or 0
    revoke_time        BIGINT  NOT NULL, -- the deadline it names, or 0
    create_time        BIGINT  NOT NULL,
    update_time        BIGINT  NOT NULL, -- of its state
    next_attempt_time  BIGINT  NOT NULL,
    due_time           BIGINT,           -- when it may be claimed; a lease lies in the future; NULL when final
    lease_owner        TEXT    NOT NULL,
    failed_attempts    INTEGER NOT NULL,
    ambiguous_attempts INTEGER NOT NULL, -- those that may have been delivered
    first_failure_time BIGINT  NOT NULL,
    told               BOOLEAN NOT NULL, -- a mail server took it, or may have
    resent             BOOLEAN NOT NULL, -- somebody asked for it to be sent again
    last_error         TEXT    NOT NULL,
    UNIQUE (event_id, agent)
);
CREATE INDEX notices_due ON notices (priority, due_time) WHERE due_time IS NOT NULL;
CREATE INDEX notices_newest ON notices (account, create_time, id);
CREATE INDEX notices_newest_by_state ON notices (account, state, create_time, id);
CREATE INDEX notices_agent ON notices (account, agent, kind, policy_revision);
CREATE INDEX notices_enforcement ON notices (account, enforce_time, state) WHERE enforce_time > 0;
-- For what a newer revision leaves behind.
CREATE INDEX notices_open_of_policy ON notices (account, policy_revision) WHERE due_time IS NOT NULL AND policy_revision > 0;
CREATE INDEX notices_final ON notices (update_time) WHERE due_time IS NULL;

-- +goose Down
DROP TABLE notices;
DROP TABLE fan_outs;
DROP TABLE enforcements;
