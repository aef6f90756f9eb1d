-- +goose Up

-- Events of others that are in the audit log, so that none is there twice. A row
-- is of use for as long as the stream may deliver its event again.
CREATE TABLE recorded_events (
    event_id    TEXT PRIMARY KEY,
    record_time BIGINT NOT NULL
);
CREATE INDEX recorded_events_by_record_time ON recorded_events (record_time);
