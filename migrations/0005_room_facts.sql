-- What lists of rooms show, sort and filter by: follows the current state, one row per room.
CREATE TABLE room_facts (
    room_number        bigint PRIMARY KEY,
    room_type          text,          -- content.type of m.room.create: m.space, ...
    name               text,
    topic              text,
    avatar_url         text,
    canonical_alias    text,
    join_rule          text,
    history_visibility text,
    guest_access       text,
    encryption         text,          -- the algorithm
    replacement_room   text,          -- of the tombstone: '' if the room is closed without one
    is_federated       boolean NOT NULL DEFAULT true, -- m.federate of m.room.create
    allowed_rooms      text,          -- of a restricted room: JSON array of the rooms whose members may join
    predecessor        text           -- the room that this one replaces
);
