-- Push: what unread counts and pushers need beside the events' own outcomes.

-- Rules that a user once had, so that events which came under them stay judged by them. The newest few.
CREATE TABLE push_rule_history (
    user_id        text COLLATE "C" NOT NULL,
    until_position bigint NOT NULL,           -- stream position of the change that ended them
    rules          bytea NOT NULL,            -- as in the account data of the type m.push_rules
    PRIMARY KEY (user_id, until_position)
);
