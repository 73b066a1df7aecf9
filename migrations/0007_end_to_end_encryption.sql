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

-- No foreign key: it would double the time that a message to many devices holds the stream writer, which is the
-- only one who writes messages and deletes devices.
CREATE TABLE to_device_messages (
    user_id   text NOT NULL,
    device_id text NOT NULL,
    position  bigint NOT NULL,
    json      bytea NOT NULL,        -- the message as /sync shows it
    PRIMARY KEY (user_id, device_id, position)
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

CREATE TABLE cross_signing_keys (
    user_id text COLLATE "C" NOT NULL, -- local or remote
    usage   text NOT NULL,           -- master, self_signing, user_signing
    json    bytea NOT NULL,          -- with all signatures by the user and their devices
    PRIMARY KEY (user_id, usage)
);

-- What local users have signed of other users' master keys: only the signer gets to see it.
CREATE TABLE user_signatures (
    signer     text COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL, -- whose key it is
    master_key text NOT NULL,        -- the key that is signed, in base64
    key_id     text NOT NULL,        -- the signer's user-signing key: ed25519:<base64>
    signature  text NOT NULL,
    PRIMARY KEY (signer, user_id, master_key, key_id)
);

-- The devices of remote users, as their servers have told us.
CREATE TABLE remote_device_lists (
    user_id    text COLLATE "C" PRIMARY KEY,
    stream_id  bigint,               -- of the newest update that it holds; NULL: not known, so the next is a gap
    is_stale   boolean NOT NULL,     -- an update was missed
    fetched_at bigint NOT NULL       -- stream position: nothing was missed while a room was shared since then
);

CREATE TABLE remote_devices (
    user_id      text COLLATE "C" NOT NULL,
    device_id    text NOT NULL,
    json         bytea NOT NULL,     -- the device keys
    display_name text,
    PRIMARY KEY (user_id, device_id)
);

-- Room keys that users keep on the server, encrypted by their clients.
CREATE TABLE key_backups (
    user_id    text NOT NULL REFERENCES accounts,
    version    bigint NOT NULL,      -- counts up per user; never given again, so deleted ones stay as empty rows
    algorithm  text NOT NULL,
    auth_data  bytea NOT NULL,       -- JSON object
    etag       bigint NOT NULL DEFAULT 0, -- changes with every change of a key
    key_count  bigint NOT NULL DEFAULT 0, -- rows in backed_up_keys
    is_deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE backed_up_keys (
    user_id             text NOT NULL,
    version             bigint NOT NULL,
    room_id             text COLLATE "C" NOT NULL,
    session_id          text COLLATE "C" NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count     bigint NOT NULL,
    is_verified         boolean NOT NULL,
    session_data        bytea NOT NULL, -- JSON object
    PRIMARY KEY (user_id, version, room_id, session_id)
);

-- A device of a user that is kept here, encrypted, to receive room keys while no other is logged in (MSC3814).
CREATE TABLE dehydrated_devices (
    user_id     text PRIMARY KEY,
    device_id   text NOT NULL,
    device_data bytea NOT NULL,      -- JSON object
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
