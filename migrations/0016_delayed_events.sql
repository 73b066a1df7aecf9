-- Events that users want sent later (MSC4140), until they are sent or cancelled.
CREATE TABLE delayed_events (
    delay_id       text COLLATE "C" PRIMARY KEY,  -- a secret: whoever knows it may restart, cancel, send
    user_id        text COLLATE "C" NOT NULL,
    device_id      text COLLATE "C" NOT NULL,     -- '' for an application service without a device
    transaction_id text COLLATE "C",              -- the endpoint and the client's id; null for state events
    room_id        text COLLATE "C" NOT NULL,
    type           text COLLATE "C" NOT NULL,
    state_key      text COLLATE "C",
    redacts        text COLLATE "C",
    content        bytea NOT NULL,                -- a JSON object
    delay          bigint NOT NULL,               -- milliseconds
    running_since  bigint NOT NULL                -- milliseconds since the epoch: when it was made or last restarted
);
