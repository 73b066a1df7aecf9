-- Which threads users have subscribed to, or unsubscribed from (MSC4306).
CREATE TABLE thread_subscriptions (
    user_id        text COLLATE "C" NOT NULL,
    room_id        text COLLATE "C" NOT NULL,
    thread_root_id text COLLATE "C" NOT NULL,
    subscribed     boolean NOT NULL,
    automatic      boolean NOT NULL,
    decided_order  bigint NOT NULL,    -- the end of the room's timeline when that was decided
    position       bigint NOT NULL,
    PRIMARY KEY (room_id, thread_root_id, user_id)
);
CREATE INDEX thread_subscriptions_position ON thread_subscriptions (user_id, position);
