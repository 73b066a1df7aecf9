-- Redactions whose target we don't have: they take effect when it comes.
CREATE TABLE waiting_redactions (
    number         bigint PRIMARY KEY,        -- of the redaction
    room_number    bigint NOT NULL,
    redacts        text COLLATE "C" NOT NULL, -- event id of the target
    by_power       boolean NOT NULL,          -- whether its sender may redact anybody's events
    timeline_order bigint NOT NULL            -- its own place in the timeline, which it has only once it takes effect
);
CREATE INDEX waiting_redactions_target ON waiting_redactions (room_number, redacts);
