-- +goose Up

-- Times are microseconds since the Unix epoch; 0 means never.

CREATE TABLE accounts (
    id           TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    owner_id     TEXT NOT NULL,
    create_time  BIGINT NOT NULL
);

-- name_key and email_key are what people search and sort by, and email_key is
-- what must be unique. has_factor repeats whether an active factor exists, so
-- that lists, counts and fan-outs need no join.
CREATE TABLE agents (
    id                TEXT PRIMARY KEY,
    account           TEXT NOT NULL REFERENCES accounts (id),
    email             TEXT NOT NULL,
    email_key         TEXT NOT NULL,
    display_name      TEXT NOT NULL,
    name_key          TEXT NOT NULL,
    role              TEXT NOT NULL,
    state             TEXT NOT NULL,
    has_password      BOOLEAN NOT NULL,
    has_sso           BOOLEAN NOT NULL,
    has_factor        BOOLEAN NOT NULL,
    mfa_state_time    BIGINT NOT NULL,
    version           BIGINT NOT NULL,
    last_sign_in_time BIGINT NOT NULL,
    create_time       BIGINT NOT NULL,
    update_time       BIGINT NOT NULL,
    UNIQUE (account, email_key)
);
CREATE INDEX agents_by_name ON agents (account, name_key, id);
CREATE INDEX agents_by_factor ON agents (account, has_factor, name_key, id);
CREATE INDEX agents_by_id ON agents (account, has_factor, id);
CREATE INDEX agents_by_create_time ON agents (account, create_time, id);
CREATE INDEX agents_by_last_sign_in_time ON agents (account, last_sign_in_time, id);
-- Few are admins, and asked for by that.
CREATE INDEX agents_by_role ON agents (account, role, name_key, id);
-- Everything a filter or a count looks at, so that counting a million reads no row.
CREATE INDEX agents_by_facts ON agents (account, state, has_factor, has_sso, has_password, role);

-- Apart from agents, so that no list ever reads a hash.
CREATE TABLE passwords (
    agent_id    TEXT PRIMARY KEY REFERENCES agents (id),
    hash        TEXT NOT NULL,
    update_time BIGINT NOT NULL
);

-- secret is sealed and bound to account, agent, factor and type. last_step is
-- the last time step a code was accepted of: only later ones are (RFC 6238, 5.2).
CREATE TABLE factors (
    id            TEXT PRIMARY KEY,
    agent_id      TEXT NOT NULL REFERENCES agents (id),
    type          TEXT NOT NULL,
    secret        BYTEA NOT NULL,
    last_step     BIGINT NOT NULL,
    create_time   BIGINT NOT NULL,
    last_use_time BIGINT NOT NULL
);
CREATE INDEX factors_by_agent ON factors (agent_id);

-- A factor in the making: one for each agent, replaced when another begins.
-- begun_by is the sign-in or the session it was begun in, and binds it to that.
CREATE TABLE enrollments (
    agent_id    TEXT PRIMARY KEY REFERENCES agents (id),
    id          TEXT NOT NULL,
    begun_by    TEXT NOT NULL,
    secret      BYTEA NOT NULL,
    failures    INTEGER NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL
);

-- mac is keyed outside the database and bound to the agent and the generation.
CREATE TABLE recovery_codes (
    agent_id   TEXT NOT NULL REFERENCES agents (id),
    generation TEXT NOT NULL,
    position   INTEGER NOT NULL,
    mac        BYTEA NOT NULL,
    PRIMARY KEY (agent_id, position)
);

-- A sign-in between its first factor and its session. id is the SHA-256 of the
-- sign-in token.
CREATE TABLE sign_ins (
    id                TEXT PRIMARY KEY,
    agent_id          TEXT NOT NULL REFERENCES agents (id),
    agent_version     BIGINT NOT NULL,
    step              TEXT NOT NULL,
    first_factor      TEXT NOT NULL,
    client_kind       TEXT NOT NULL,
    user_agent        TEXT NOT NULL,
    address           TEXT NOT NULL,
    keep_me_logged_in BOOLEAN NOT NULL,
    failures          INTEGER NOT NULL,
    create_time       BIGINT NOT NULL,
    expire_time       BIGINT NOT NULL
);
CREATE INDEX sign_ins_by_agent ON sign_ins (agent_id);
CREATE INDEX sign_ins_by_expire_time ON sign_ins (expire_time);

-- Wrong codes in a row, over all sign-ins and sessions of an agent; a right
-- password does not clear them. kind is FACTOR (all codes), RECOVERY_CODE, or
-- ENROLLMENT (codes of factors in the making, which count nowhere else).
CREATE TABLE factor_failures (
    agent_id     TEXT NOT NULL REFERENCES agents (id),
    kind         TEXT NOT NULL,
    failures     INTEGER NOT NULL,
    blocked_time BIGINT NOT NULL,
    PRIMARY KEY (agent_id, kind)
);

-- Wrong passwords. id is a keyed hash of the account, the address typed (known
-- or not) and the network address, or of the first two alone: so nobody keeps
-- another person out by guessing, and the table names nobody.
CREATE TABLE password_failures (
    id           TEXT PRIMARY KEY,
    failures     INTEGER NOT NULL,
    blocked_time BIGINT NOT NULL,
    update_time  BIGINT NOT NULL
);
CREATE INDEX password_failures_by_update_time ON password_failures (update_time);

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
