-- The one room in which the server tells each user something.

CREATE TABLE server_notice_rooms (
    user_id text COLLATE "C" PRIMARY KEY,
    room_id text COLLATE "C" NOT NULL
);
