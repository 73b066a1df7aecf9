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
