-- Events that were stored before they got their place in the timeline (outliers, hidden redactions): who follows the
-- log by number would never come across them.
CREATE TABLE placed_later (
    position bigint PRIMARY KEY,  -- stream position at which it got its place
    number   bigint NOT NULL      -- of the event
);

-- The log as followers read it: by position. An event that was placed later is there twice.
CREATE VIEW event_log AS
    SELECT number AS position, events.* FROM events
    UNION ALL
    SELECT placed_later.position, events.* FROM placed_later JOIN events USING (number);
