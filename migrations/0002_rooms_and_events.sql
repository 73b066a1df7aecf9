-- The log: rooms, their events and their state.
-- A "number" is an event's name inside the database and, for an event that arrived live, its stream position.

CREATE TABLE stream_reservation (
    reserved_to bigint NOT NULL          -- no stream position above this was ever given out
);
INSERT INTO stream_reservation VALUES (0);

CREATE TABLE rooms (
    room_number bigint PRIMARY KEY,      -- a room's name inside the database; allocated like a stream position
    room_id     text COLLATE "C" NOT NULL UNIQUE,
    version     text NOT NULL,
    joined_members integer NOT NULL DEFAULT 0 -- follows memberships
);

-- Rewritten with every event of the room, so apart from what hardly changes.
CREATE TABLE room_heads (
    room_number         bigint PRIMARY KEY,
    forward_extremities text[] NOT NULL, -- event ids that the next event has as prev_events
    depth               bigint NOT NULL, -- the greatest depth among them
    state_group         bigint NOT NULL, -- the current state, resolved over the forward extremities
    last_position       bigint NOT NULL, -- stream position of the newest event in the timeline
    bump_position       bigint NOT NULL  -- of the newest that moves the room up in a list of rooms
) WITH (fillfactor = 50);

CREATE TABLE events (
    number           bigint PRIMARY KEY,
    room_number      bigint NOT NULL,
    timeline_order   bigint,             -- place in the room's timeline: number * 65536 for live events, smaller (also
                                         -- negative) for history fetched later; null for outliers, rejected, soft-failed,
                                         -- hidden
    event_id         text COLLATE "C" NOT NULL UNIQUE,
    type             text COLLATE "C" NOT NULL,
    state_key        text COLLATE "C",
    sender           text COLLATE "C" NOT NULL,
    origin_server_ts bigint NOT NULL,
    state_group      bigint,             -- the state before this event; null for outliers
    replaces         bigint,             -- number of the state event that this one replaced in the room's current state
    auth_events      bigint[] NOT NULL,
    flags            smallint NOT NULL,  -- store.events.Flag
    redacted_by      bigint,             -- number of the redaction that hit it
    json             bytea NOT NULL,     -- the canonical bytes that were hashed and signed
    thread_root      text COLLATE "C",   -- event id of the root of the thread that it is in; null: main timeline
    push             smallint NOT NULL,  -- what it does on the default push rules: 1 notifies, 2 highlights
    push_sets        bigint[],           -- rule sets for which it does otherwise: their number, in the lowest two bits what
    push_users       text[],             -- local members for whom it does other than for their set: a digit, the user id
    device_id        text COLLATE "C",   -- of the local device that sent it with a transaction id; '': an application service
    transaction_id   text COLLATE "C"    -- that of its request: a digest of the endpoint, then the client's; else null
);
-- /messages, /context, the end of a timeline
CREATE INDEX events_timeline ON events (room_number, timeline_order) WHERE timeline_order IS NOT NULL;
-- whose membership was what when, for history visibility and /members?at
CREATE INDEX events_visibility ON events (room_number, state_key, timeline_order)
    WHERE timeline_order IS NOT NULL AND type IN ('m.room.member', 'm.room.history_visibility');
-- what a device has sent, so that a repeated send is answered with the first event
CREATE INDEX events_sent ON events (sender, number) WHERE device_id IS NOT NULL;
-- /timestamp_to_event
CREATE INDEX events_time ON events (room_number, origin_server_ts) WHERE timeline_order IS NOT NULL;

-- A state as one row: a snapshot (base is null) or what differs from another group.
CREATE TABLE state_groups (
    state_group   bigint PRIMARY KEY,
    room_number   bigint NOT NULL,
    base          bigint,
    event_numbers bigint[] NOT NULL,
    snapshot_size integer NOT NULL,      -- entries of the snapshot at the bottom of the chain
    delta_size    integer NOT NULL,      -- entries of all deltas above it
    current_from  bigint                 -- stream position from which it was the room's current state; null: never
);
CREATE INDEX state_groups_current ON state_groups (room_number, current_from) WHERE current_from IS NOT NULL;

-- The newest membership of each user in each room: follows the current state, kept for look-ups by user.
CREATE TABLE memberships (
    room_number    bigint NOT NULL,
    user_id        text COLLATE "C" NOT NULL,
    membership     text NOT NULL,
    event_id       text COLLATE "C" NOT NULL,
    sender         text COLLATE "C" NOT NULL,
    position       bigint NOT NULL,      -- stream position of the change
    joined_from    bigint,               -- stream position since which the user has been joined without a break
    is_local       boolean NOT NULL,
    forgotten      boolean NOT NULL DEFAULT false,
    display_name   text,
    avatar_url     text,
    stripped_state bytea,                -- JSON array: what came with an invite or knock; the event of
                                         -- a leave in a room that this server isn't in
    PRIMARY KEY (room_number, user_id)
);
-- a user's rooms; who shares a room with a user
CREATE INDEX memberships_user ON memberships (user_id);
-- the local users in a room, among many others
CREATE INDEX memberships_local ON memberships (room_number, user_id) WHERE is_local;
-- whose membership changed in these rooms since
CREATE INDEX memberships_position ON memberships (room_number, position);

CREATE TABLE receipts (
    room_number  bigint NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    receipt_type text COLLATE "C" NOT NULL,
    thread_id    text COLLATE "C" NOT NULL,   -- '' for an unthreaded receipt
    event_id     text COLLATE "C" NOT NULL,
    event_order  bigint NOT NULL,             -- timeline_order of the event; the lowest bigint when we don't have it
    ts           bigint NOT NULL,             -- milliseconds
    position     bigint NOT NULL,
    PRIMARY KEY (room_number, user_id, receipt_type, thread_id)
) WITH (fillfactor = 70);

CREATE TABLE account_data (
    user_id  text COLLATE "C" NOT NULL,
    room_id  text COLLATE "C" NOT NULL,       -- '' for global account data
    type     text COLLATE "C" NOT NULL,
    content  bytea NOT NULL,                  -- a JSON object; of m.push_rules just what differs from the defaults
    position bigint NOT NULL,
    PRIMARY KEY (user_id, room_id, type)
);
