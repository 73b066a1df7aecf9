-- Rooms in which somebody typed before the server ended: clients there may still believe that they do.
CREATE TABLE typing_before_end (
    room_id text COLLATE "C" PRIMARY KEY
);
