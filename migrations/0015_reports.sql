-- What users reported as inappropriate, for the server's moderators.
CREATE TABLE reports (
    report_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reported_at bigint NOT NULL,              -- milliseconds
    reporter    text COLLATE "C" NOT NULL,
    room_id     text COLLATE "C",             -- of a reported room or event
    event_id    text COLLATE "C",             -- of a reported event
    user_id     text COLLATE "C",             -- the reported user, or the sender of the event
    reason      text NOT NULL
);
