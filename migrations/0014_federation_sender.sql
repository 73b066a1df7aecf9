-- Up to where other servers have what we have to tell them.

CREATE TABLE federation_sender (
    position bigint NOT NULL              -- who isn't behind has everything up to this stream position
);
INSERT INTO federation_sender VALUES (0);

-- Servers that lack something below that position: they don't answer, or didn't until a moment ago.
CREATE TABLE federation_behind (
    destination text COLLATE "C" PRIMARY KEY,
    position    bigint NOT NULL           -- they have everything up to here
);

-- which rooms a server takes part in
CREATE INDEX memberships_remote_server ON memberships (substr(user_id, strpos(user_id, ':') + 1))
    WHERE NOT is_local;

-- Where our history of a room begins anew (we joined it): the history visibility that held before that event. Below it
-- the same holds, as far as no event that we fetched says otherwise.
CREATE TABLE visibility_starts (
    room_number    bigint NOT NULL,
    timeline_order bigint NOT NULL,       -- of the event before which it held
    visibility     text NOT NULL,
    PRIMARY KEY (room_number, timeline_order)
);
