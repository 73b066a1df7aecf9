-- What is known of other servers. All times are milliseconds since the Unix epoch.

CREATE TABLE server_keys (
    server_name text NOT NULL,
    key_id text NOT NULL,            -- ed25519:a_abcd
    verify_key bytea NOT NULL,       -- the public key, 32 bytes
    valid_until_ts bigint NOT NULL,  -- last moment at which it may sign; at most 7 days after fetched_at
    fetched_at bigint NOT NULL,
    response bytea NOT NULL,         -- the signed JSON that told of it, to pass on as a notary
    PRIMARY KEY (server_name, key_id)
);

CREATE TABLE server_outages (
    destination text PRIMARY KEY,
    failing_since bigint NOT NULL,
    failures integer NOT NULL,       -- in a row
    retry_at bigint NOT NULL         -- not asked again before
);
