-- Keys of devices, what changed in device lists, and messages from device to device.
-- "json" is a JSON object as canonical bytes.

CREATE TABLE device_keys (
    user_id   text NOT NULL,
    device_id text NOT NULL,
    json      bytea NOT NULL,        -- as uploaded, with all signatures by its owner; without `unsigned`
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

CREATE TABLE one_time_keys (
    number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of upload, in which they are given out
    user_id   text NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id    text NOT NULL,
    json      bytea,                 -- NULL: given out; remembered until the device uploads others, so that a
                                     -- repeated upload doesn't bring it back
    UNIQUE (user_id, device_id, algorithm, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
-- the oldest key is claimed; keys are counted
CREATE INDEX one_time_keys_unclaimed ON one_time_keys (user_id, device_id, algorithm, number)
    WHERE json IS NOT NULL;

CREATE TABLE fallback_keys (
    user_id   text NOT NULL,
    device_id text NOT NULL,
    algorithm text NOT NULL,
    key_id    text NOT NULL,
    json      bytea NOT NULL,
    is_used   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, device_id, algorithm),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Who must fetch whose keys anew: one row per change, of local and of remote users. The rows of a local user
-- are also the m.device_list_update EDUs that other servers get: position is their stream_id.
CREATE TABLE device_list_changes (
    position  bigint PRIMARY KEY,
    user_id   text COLLATE "C" NOT NULL,
    device_id text NOT NULL,         -- '' where it is not about one device: cross-signing keys, remote users
    only_for  text COLLATE "C"       -- the one user whom it concerns: signatures that nobody else may see
);
CREATE INDEX device_list_changes_user ON device_list_changes (user_id, position);

CREATE TABLE to_device_messages (
    user_id   text NOT NULL,
    device_id text NOT NULL,
    position  bigint NOT NULL,
    json      bytea NOT NULL,        -- the message as /sync shows it
    PRIMARY KEY (user_id, device_id, position),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Messages to devices of other servers, until those have taken them: the content of m.direct_to_device.
CREATE TABLE outgoing_to_device (
    destination text COLLATE "C" NOT NULL,
    position    bigint NOT NULL,
    json        bytea NOT NULL,
    PRIMARY KEY (destination, position)
);

CREATE TABLE to_device_transactions (
    user_id        text NOT NULL,
    device_id      text NOT NULL,    -- the sender's
    transaction_id text NOT NULL,    -- with its endpoint
    sent_at        bigint NOT NULL,  -- milliseconds; forgotten after a while
    PRIMARY KEY (user_id, device_id, transaction_id)
);
