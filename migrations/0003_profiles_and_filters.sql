-- What users say of themselves: displayname, avatar_url and fields of their own choice.
CREATE TABLE profiles (
    user_id text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    value   bytea NOT NULL,           -- JSON
    PRIMARY KEY (user_id, key)
);

-- Filters that clients have uploaded, each once per user.
CREATE TABLE filters (
    user_id    text COLLATE "C" NOT NULL,
    filter_id  bigint NOT NULL,
    definition bytea NOT NULL,        -- canonical JSON
    digest     bytea NOT NULL,        -- SHA-256 of it: an equal filter gets the same id
    PRIMARY KEY (user_id, filter_id),
    UNIQUE (user_id, digest)
);
