-- Rooms that we entered with a part of their state: most of the members were told later, or are yet to be told.
CREATE TABLE partial_rooms (
    room_number   bigint PRIMARY KEY,
    join_event_id text COLLATE "C" NOT NULL, -- the join with which we entered: the state before it is what we lack
    state_group   bigint NOT NULL,           -- the state before the join, as far as we have it
    servers       text[] NOT NULL,           -- who was in the room before us, whom we joined through first; empty once complete
    complete_from bigint,                    -- stream position from which we have the whole state; null: not yet
    corrected     boolean NOT NULL DEFAULT false -- what clients were told before that was not all true
);
CREATE INDEX partial_rooms_incomplete ON partial_rooms (room_number) WHERE complete_from IS NULL;
