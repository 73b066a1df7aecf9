-- What is kept of presence over a restart; who is online is known in memory only.
CREATE TABLE presence (
    user_id        text COLLATE "C" PRIMARY KEY,
    status_msg     text,
    last_active_ts bigint NOT NULL     -- milliseconds
);
