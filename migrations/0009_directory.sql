-- What finds rooms: aliases of this server, and the rooms that its directory lists.

CREATE TABLE room_aliases (
    alias      text COLLATE "C" PRIMARY KEY,
    room_id    text COLLATE "C" NOT NULL,
    creator    text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL           -- milliseconds
);
-- the aliases of a room
CREATE INDEX room_aliases_room ON room_aliases (room_id);

CREATE TABLE published_rooms (
    room_number bigint NOT NULL,
    network     text COLLATE "C" NOT NULL DEFAULT '', -- of an application service: its id, "|", the network's; '': our own
    PRIMARY KEY (room_number, network)
);
