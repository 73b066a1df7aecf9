-- Push: what unread counts and pushers need beside the events' own outcomes.

-- Rules that a user once had, so that events which came under them stay judged by them. The newest few.
CREATE TABLE push_rule_history (
    user_id        text COLLATE "C" NOT NULL,
    until_position bigint NOT NULL,           -- stream position of the change that ended them
    rules          bytea NOT NULL,            -- as in the account data of the type m.push_rules
    PRIMARY KEY (user_id, until_position)
);

CREATE TABLE pushers (
    app_id              text COLLATE "C" NOT NULL,
    pushkey             text COLLATE "C" NOT NULL,
    user_id             text COLLATE "C" NOT NULL,
    device_id           text COLLATE "C",     -- the device that made it, with which it goes; null: an application service
    kind                text NOT NULL,
    app_display_name    text NOT NULL,
    device_display_name text NOT NULL,
    profile_tag         text NOT NULL,
    lang                text NOT NULL,
    data                bytea NOT NULL,       -- a JSON object
    enabled             boolean NOT NULL,
    pushkey_ts          bigint NOT NULL,      -- milliseconds: when it was set
    position            bigint NOT NULL,      -- stream position up to which it has been served
    PRIMARY KEY (app_id, pushkey, user_id)
);
CREATE INDEX pushers_user ON pushers (user_id);
