-- What events say about other events by `m.relates_to`: one row per child that stands in a timeline and isn't redacted.
CREATE TABLE relations (
    number           bigint PRIMARY KEY,       -- of the child
    event_id         text COLLATE "C" NOT NULL,
    room_number      bigint NOT NULL,
    parent_id        text COLLATE "C" NOT NULL, -- an event id, whether we have that event or not
    rel_type         text COLLATE "C" NOT NULL,
    type             text COLLATE "C" NOT NULL,
    sender           text COLLATE "C" NOT NULL,
    key              text COLLATE "C",          -- of an annotation
    timeline_order   bigint NOT NULL,
    origin_server_ts bigint NOT NULL
);
-- bundles, /relations
CREATE INDEX relations_parent ON relations (parent_id, timeline_order);
-- /threads
CREATE INDEX relations_threads ON relations (room_number, parent_id, timeline_order) WHERE rel_type = 'm.thread';
