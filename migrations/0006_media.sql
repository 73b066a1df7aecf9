-- Media: the stored contents by their hash, what refers to them, thumbnails, link previews.
-- All times are milliseconds since the Unix epoch, all sizes bytes.

-- One row per content, however many media have it. The bytes are in the store under the hash.
CREATE TABLE media_files (
    sha256 bytea PRIMARY KEY,
    size bigint NOT NULL,
    is_stored boolean NOT NULL DEFAULT false, -- false: claimed, the bytes are still on their way
    claimed_at bigint NOT NULL,      -- the newest upload of it
    quarantined_by text,             -- the admin who did it: nobody gets this content any more
    is_protected boolean NOT NULL DEFAULT false -- an admin said that it is never quarantined
);

CREATE TABLE media (
    server_name text NOT NULL,       -- where it originated: ours, or the server it was fetched from
    media_id text NOT NULL,
    sha256 bytea REFERENCES media_files, -- NULL: created, not uploaded yet
    content_type text,               -- as the uploader said
    file_name text,
    user_id text,                    -- the uploader; NULL: fetched from another server or web page
    created_at bigint NOT NULL,      -- created, uploaded or fetched
    last_used_at bigint NOT NULL,    -- downloaded; written in batches, so up to a minute late
    expires_at bigint,               -- created and not uploaded by then: the id is void
    is_public boolean NOT NULL DEFAULT false, -- came while the old, open paths were fully served
    is_preview boolean NOT NULL DEFAULT false, -- the picture of a link preview
    PRIMARY KEY (server_name, media_id)
);
-- who else has this content?
CREATE INDEX media_by_sha256 ON media (sha256);
-- a user's media: quota, pending uploads, admin listing
CREATE INDEX media_by_user ON media (user_id, created_at) WHERE user_id IS NOT NULL;
-- retention: what was not used for the longest
CREATE INDEX media_by_last_use ON media (last_used_at);

-- Thumbnails belong to the content. Their bytes are in the store beside it.
CREATE TABLE media_thumbnails (
    sha256 bytea NOT NULL REFERENCES media_files ON DELETE CASCADE,
    width integer NOT NULL,          -- the box it was made for, not its own size
    height integer NOT NULL,
    method text NOT NULL,            -- crop or scale
    animated boolean NOT NULL,
    content_type text NOT NULL,
    size bigint,                     -- NULL: the content itself is small enough to be its thumbnail
    PRIMARY KEY (sha256, width, height, method, animated)
);

-- Which events carry a piece of media, as far as we can read them: redacting the last one
-- deletes the media.
CREATE TABLE media_links (
    event_id text NOT NULL,
    server_name text NOT NULL,
    media_id text NOT NULL,
    sender text NOT NULL,            -- only the uploader's own redacted events delete their media
    PRIMARY KEY (event_id, server_name, media_id)
);
-- does another event carry it?
CREATE INDEX media_links_by_media ON media_links (server_name, media_id);

CREATE TABLE media_links_position (
    position bigint NOT NULL         -- up to this stream position events were looked through
);
INSERT INTO media_links_position VALUES (0);

CREATE TABLE url_previews (
    url_sha256 bytea PRIMARY KEY,    -- of the URL as the client gave it
    url text NOT NULL,
    answer bytea NOT NULL,           -- JSON; {} for a page that has nothing to show
    fetched_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX url_previews_by_end ON url_previews (expires_at);
