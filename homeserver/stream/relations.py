"""From a change of the log to the relation that it states."""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.protocol.relations import REPLACE, Relation, relation_of
from homeserver.store.relations import RelationRow
from homeserver.stream.changes import EventChange
from homeserver.stream.stored_event import StoredEvent


def relation_row(change: EventChange) -> RelationRow | None:
    """The relation of an event that enters a timeline, if it states one that counts."""
    row = change.row
    if row.timeline_order is None or "m.relates_to" not in change.stored.event.content:
        return None
    relation = stated_relation(change.stored)
    if relation is None:
        return None
    return RelationRow(
        number=row.number,
        event_id=row.event_id,
        room_number=row.room_number,
        parent_id=relation.event_id,
        rel_type=relation.rel_type,
        type=row.type,
        sender=row.sender,
        key=_storable(relation.key),
        timeline_order=row.timeline_order,
        origin_server_ts=row.origin_server_ts,
    )


def stated_relation(stored: StoredEvent) -> Relation | None:
    """What an event that isn't redacted says of another; edits without new content say nothing.

    "Relationships which [...] break the rules of a relationship, are simply ignored."
    """
    if stored.redacted_by is not None:
        return None
    content = stored.event.content
    relation = relation_of(content)
    if relation is None or "\0" in relation.rel_type:
        return None
    if relation.rel_type == REPLACE and stored.type != "m.room.encrypted":
        new_content = content.get("m.new_content")
        if stored.state_key is not None or not isinstance(new_content, dict):
            return None
    return relation


def relation_rows(changes: Iterable[EventChange]) -> list[RelationRow]:
    """The relations that a batch brings."""
    return [row for row in map(relation_row, changes) if row is not None]


def _storable(key: str | None) -> str | None:
    # Postgres text can't hold NUL.
    return None if key is None or "\0" in key else key
