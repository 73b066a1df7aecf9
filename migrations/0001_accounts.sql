-- Local accounts, their devices and the tokens by which devices are known.
-- All times are milliseconds since the Unix epoch.

CREATE TABLE accounts (
    user_id text PRIMARY KEY,
    password_hash text,              -- bcrypt; NULL: nobody logs in with a password
    created_at bigint NOT NULL,
    app_service text,                -- id of the application service that made it
    is_guest boolean NOT NULL DEFAULT false,
    is_admin boolean NOT NULL DEFAULT false,
    is_suspended boolean NOT NULL DEFAULT false,  -- client-server-api#account-suspension
    is_locked boolean NOT NULL DEFAULT false,     -- client-server-api#account-locking
    is_deactivated boolean NOT NULL DEFAULT false, -- for ever: the user id is not given out again
    erased_at bigint                 -- stream position at which they were erased, as they asked when deactivating
);

CREATE TABLE devices (
    user_id text NOT NULL REFERENCES accounts,
    device_id text NOT NULL,
    display_name text,
    created_at bigint NOT NULL,
    last_seen_at bigint,             -- written in batches, so up to a minute late
    last_seen_ip text,
    last_seen_user_agent text,
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,    -- SHA-256 of the token
    user_id text NOT NULL,
    device_id text NOT NULL,
    replaces bytea,                  -- the refresh token that ends when this one is first used
    created_at bigint NOT NULL,
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
-- a device is logged out
CREATE INDEX refresh_tokens_by_device ON refresh_tokens (user_id, device_id);

CREATE TABLE access_tokens (
    token_hash bytea PRIMARY KEY,    -- SHA-256 of the token
    user_id text NOT NULL,
    device_id text NOT NULL,
    expires_at bigint,               -- NULL: never
    refresh_token bytea REFERENCES refresh_tokens ON DELETE CASCADE, -- was given out with it
    replaces bytea,                  -- the refresh token that ends when this token is first used
    created_at bigint NOT NULL,
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
-- a device is logged out
CREATE INDEX access_tokens_by_device ON access_tokens (user_id, device_id);
-- a refresh token ends, and with it the access tokens that came with it
CREATE INDEX access_tokens_by_refresh_token ON access_tokens (refresh_token)
    WHERE refresh_token IS NOT NULL;

-- a refresh token is exchanged once more, or its successor is used
CREATE INDEX refresh_tokens_by_replaced ON refresh_tokens (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX access_tokens_by_replaced ON access_tokens (replaces) WHERE replaces IS NOT NULL;

CREATE TABLE registration_tokens (
    token text PRIMARY KEY,
    uses_allowed integer,            -- NULL: as often as you like
    uses integer NOT NULL DEFAULT 0, -- accounts made with it
    expires_at bigint,               -- NULL: never
    makes_admin boolean NOT NULL DEFAULT false, -- the account made with it is a server admin
    created_at bigint NOT NULL
);

CREATE TABLE threepids (
    medium text NOT NULL,            -- email or msisdn
    address text NOT NULL,           -- in canonical form
    user_id text NOT NULL REFERENCES accounts,
    validated_at bigint NOT NULL,
    added_at bigint NOT NULL,
    PRIMARY KEY (medium, address)
);
-- the third-party ids of an account
CREATE INDEX threepids_by_user ON threepids (user_id);
