-- The OAuth 2.0 API: clients that registered, and the tokens that were given to them.
-- Codes and the sign-ins of browsers live in memory only.

CREATE TABLE oauth_clients (
    client_id text COLLATE "C" PRIMARY KEY, -- the hash of the metadata: who registers the same again gets the same
    metadata text NOT NULL,                 -- JSON (RFC 7591), checked
    used_at bigint NOT NULL                 -- when it was last registered, or last allowed to log somebody in
);
-- clients that nobody uses are forgotten, the oldest first
CREATE INDEX oauth_clients_by_use ON oauth_clients (used_at);

ALTER TABLE refresh_tokens
    ADD COLUMN oauth_client text COLLATE "C" REFERENCES oauth_clients, -- the client that has it; NULL: it came by /login
    ADD COLUMN oauth_family bytea;          -- hash of what all refresh tokens of one grant have in common
-- a used refresh token or code comes again: what came of it ends
CREATE INDEX refresh_tokens_by_oauth_family ON refresh_tokens (oauth_family) WHERE oauth_family IS NOT NULL;
-- a client may be forgotten only if no device has tokens of it
CREATE INDEX refresh_tokens_by_oauth_client ON refresh_tokens (oauth_client) WHERE oauth_client IS NOT NULL;

ALTER TABLE access_tokens ADD COLUMN by_oauth boolean NOT NULL DEFAULT false;
