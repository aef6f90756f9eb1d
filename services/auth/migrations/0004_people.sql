-- +goose Up

-- The mail with a one-time link that an agent was last promised, one for each
-- purpose. event_id is the event the mail tells of. hash is the SHA-256 of the
-- token, empty until the mail is written. A newer promise takes the row over; it
-- is deleted when the link is used or void.
CREATE TABLE links (
    agent_id    TEXT NOT NULL REFERENCES agents (id),
    purpose     TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    hash        TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL,
    PRIMARY KEY (agent_id, purpose)
);
CREATE UNIQUE INDEX links_by_hash ON links (hash) WHERE hash <> '';

-- Who asked for a new password, known or not, until somebody has looked. What a
-- request writes does not depend on whether anybody has the address.
CREATE TABLE reset_requests (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL,
    email_key   TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
CREATE INDEX reset_requests_by_email ON reset_requests (account, email_key);

-- How many mails with a new password an agent was sent since window_time.
CREATE TABLE reset_mails (
    agent_id    TEXT PRIMARY KEY REFERENCES agents (id),
    mails       INTEGER NOT NULL,
    window_time BIGINT NOT NULL
);
CREATE INDEX reset_mails_by_window_time ON reset_mails (window_time);

-- The last sign-in through the identity provider, and how that one said it had
-- authenticated the person, in its words.
ALTER TABLE agents ADD COLUMN sso_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN sso_amr TEXT NOT NULL DEFAULT '';
