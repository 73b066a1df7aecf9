-- Mail addresses that are to be confirmed by a letter, or were: the letter outlives a restart of the server.
CREATE TABLE mail_proofs (
    sid           text PRIMARY KEY,
    purpose       text NOT NULL,   -- what the address is confirmed for; good for nothing else
    address       text NOT NULL,
    client_secret bytea NOT NULL,  -- SHA-256
    expires_at    bigint NOT NULL, -- milliseconds since the epoch
    send_attempt  bigint NOT NULL, -- of the newest letter
    next_link     text,            -- where the client wants to go on
    validated_at  bigint,          -- when the link was followed
    UNIQUE (purpose, address, client_secret)
);
CREATE INDEX mail_proofs_expires_at ON mail_proofs (expires_at); -- the old ones go when another comes
