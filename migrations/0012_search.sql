-- What can be found by /search: messages, names and topics of rooms, in their newest valid edit, not redacted.
-- Filled by a follower of the log.
CREATE TABLE searchable (
    number           bigint PRIMARY KEY,        -- of the event, the original if it was edited
    room_number      bigint NOT NULL,
    key              text COLLATE "C" NOT NULL, -- content.body, content.name or content.topic
    sender           text COLLATE "C" NOT NULL,
    timeline_order   bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    terms            tsvector NOT NULL          -- the words, or pairs of characters, and `!<room_number>`
);
CREATE INDEX searchable_terms ON searchable USING gin (terms);

-- How far those who follow the log in the background have read it.
CREATE TABLE follower_positions (
    follower text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL
);
