-- What is known of other servers. All times are milliseconds since the Unix epoch.

CREATE TABLE server_keys (
    server_name text NOT NULL,
    key_id text NOT NULL,            -- ed25519:a_abcd
    verify_key bytea NOT NULL,       -- the public key, 32 bytes
    valid_until_ts bigint NOT NULL,  -- last moment at which it may sign; at most 7 days after fetched_at
    fetched_at bigint NOT NULL,
    response bytea NOT NULL,         -- the signed JSON that told of it, to pass on as a notary
    PRIMARY KEY (server_name, key_id)
);

CREATE TABLE server_outages (
    destination text PRIMARY KEY,
    failing_since bigint NOT NULL,
    failures integer NOT NULL,       -- in a row
    retry_at bigint NOT NULL         -- not asked again before
);

-- Events that events of ours refer to and that we lack: where history is to be fetched.
CREATE TABLE backward_extremities (
    event_id       text COLLATE "C" PRIMARY KEY,
    room_number    bigint NOT NULL,
    timeline_order bigint NOT NULL   -- of the lowest event that has it as prev_event
);
CREATE INDEX backward_extremities_room ON backward_extremities (room_number, timeline_order);

-- PDUs that were acknowledged to their senders before they were dealt with.
CREATE TABLE received_pdus (
    event_id    text COLLATE "C" PRIMARY KEY,
    room_id     text COLLATE "C" NOT NULL,
    origin      text NOT NULL,
    json        bytea NOT NULL,      -- the PDU as it was received
    received_at bigint NOT NULL
);

-- Redactions whose target we don't have: they take effect when it comes.
CREATE TABLE waiting_redactions (
    number         bigint PRIMARY KEY,        -- of the redaction
    room_number    bigint NOT NULL,
    redacts        text COLLATE "C" NOT NULL, -- event id of the target
    by_power       boolean NOT NULL,          -- whether its sender may redact anybody's events
    timeline_order bigint NOT NULL            -- its own place in the timeline, which it has only once it takes effect
);
CREATE INDEX waiting_redactions_target ON waiting_redactions (room_number, redacts);
-- what lies next to an order, for history that is fetched
CREATE INDEX waiting_redactions_order ON waiting_redactions (room_number, timeline_order);

-- Events that were stored before they got their place in the timeline (outliers, hidden redactions): who follows the
-- log by number would never come across them.
CREATE TABLE placed_later (
    position bigint PRIMARY KEY,  -- stream position at which it got its place
    number   bigint NOT NULL      -- of the event
);

-- The log as followers read it: by position. An event that was placed later is there twice.
CREATE VIEW event_log AS
    SELECT number AS position, events.* FROM events
    UNION ALL
    SELECT placed_later.position, events.* FROM placed_later JOIN events USING (number);
