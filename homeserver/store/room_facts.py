"""What lists of rooms show, sort and filter by, of each room's current state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from homeserver.json_types import JsonObject
from homeserver.store.database import Connection


class RoomFacts(Struct, frozen=True):
    """One row of `room_facts`."""

    room_number: int
    room_type: str | None = None
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    canonical_alias: str | None = None
    join_rule: str | None = None
    history_visibility: str | None = None
    guest_access: str | None = None
    encryption: str | None = None
    replacement_room: str | None = None
    is_federated: bool = True
    allowed_rooms: str | None = None
    """A JSON array of room ids."""
    predecessor: str | None = None

    @property
    def allowed_room_ids(self) -> list[str]:
        """The rooms whose members may join, of a restricted room."""
        return [] if self.allowed_rooms is None else msgspec.json.decode(self.allowed_rooms)


FACT_OF: Mapping[str, tuple[str, str]] = {
    "m.room.create": ("room_type", "type"),
    "m.room.name": ("name", "name"),
    "m.room.topic": ("topic", "topic"),
    "m.room.avatar": ("avatar_url", "url"),
    "m.room.canonical_alias": ("canonical_alias", "alias"),
    "m.room.join_rules": ("join_rule", "join_rule"),
    "m.room.history_visibility": ("history_visibility", "history_visibility"),
    "m.room.guest_access": ("guest_access", "guest_access"),
    "m.room.encryption": ("encryption", "algorithm"),
    "m.room.tombstone": ("replacement_room", "replacement_room"),
}
"""For each state event type (with the empty state key): the fact, and where its content has it."""


def with_event(facts: RoomFacts, event_type: str, content: JsonObject | None) -> RoomFacts:
    """The facts after this state event (None: the state has it no more)."""
    fact, field = FACT_OF[event_type]
    value = None if content is None else _text(content.get(field))
    changed: dict[str, Any] = {fact: value}
    if event_type == "m.room.create":
        predecessor = None if content is None else content.get("predecessor")
        told = predecessor.get("room_id") if isinstance(predecessor, dict) else None
        changed["predecessor"] = _text(told)
        changed["is_federated"] = content is None or content.get("m.federate") is not False
    elif event_type == "m.room.join_rules":
        changed["allowed_rooms"] = _allowed_rooms(value, content)
    elif event_type == "m.room.topic":
        changed["topic"] = None if content is None else _plain_topic(content)
    elif event_type == "m.room.tombstone" and content is not None:
        changed["replacement_room"] = value or ""
    return replace(facts, **changed)


def _text(value: Any) -> str | None:
    """Postgres text can't hold NUL."""
    return value if isinstance(value, str) and "\0" not in value else None


def _plain_topic(content: JsonObject) -> str | None:
    """The `text/plain` form of `m.topic`, else `topic`. client-server-api#mroomtopic"""
    topic = content.get("m.topic")
    forms = topic.get("m.text") if isinstance(topic, dict) else None
    for form in forms if isinstance(forms, list) else ():
        if isinstance(form, dict) and form.get("mimetype", "text/plain") == "text/plain":
            return _text(form.get("body"))
    return _text(content.get("topic"))


def _allowed_rooms(join_rule: str | None, content: JsonObject | None) -> str | None:
    allow = None if content is None else content.get("allow")
    if join_rule not in ("restricted", "knock_restricted") or not isinstance(allow, list):
        return None
    rooms = [
        rule["room_id"]
        for rule in allow
        if isinstance(rule, dict)
        and rule.get("type") == "m.room_membership"
        and _text(rule.get("room_id")) is not None
    ]
    return msgspec.json.encode(rooms).decode()


COLUMNS = (
    "room_type, name, topic, avatar_url, canonical_alias, join_rule, history_visibility, "
    "guest_access, encryption, replacement_room, is_federated, allowed_rooms, "
    "predecessor"
)
"""All columns after `room_number`, in the order of `RoomFacts`."""


async def load(connection: Connection, room_numbers: Iterable[int]) -> list[RoomFacts]:
    """The facts of these rooms, as far as there are any."""
    records = await connection.fetch(
        f"SELECT room_number, {COLUMNS} FROM room_facts WHERE room_number = ANY($1::bigint[])",  # noqa: S608
        list(room_numbers),
    )
    return [RoomFacts(*record) for record in records]


async def put(connection: Connection, rows: Sequence[RoomFacts]) -> None:
    """Set the facts of rooms."""
    await connection.execute(
        f"""
        INSERT INTO room_facts (room_number, {COLUMNS})
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                             $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                             $11::text[], $12::boolean[], $13::text[], $14::text[])
        ON CONFLICT (room_number) DO UPDATE
        SET room_type = excluded.room_type, name = excluded.name, topic = excluded.topic,
            avatar_url = excluded.avatar_url, canonical_alias = excluded.canonical_alias,
            join_rule = excluded.join_rule, history_visibility = excluded.history_visibility,
            guest_access = excluded.guest_access, encryption = excluded.encryption,
            replacement_room = excluded.replacement_room, is_federated = excluded.is_federated,
            allowed_rooms = excluded.allowed_rooms, predecessor = excluded.predecessor
        """,  # noqa: S608 - constants
        [r.room_number for r in rows],
        [r.room_type for r in rows],
        [r.name for r in rows],
        [r.topic for r in rows],
        [r.avatar_url for r in rows],
        [r.canonical_alias for r in rows],
        [r.join_rule for r in rows],
        [r.history_visibility for r in rows],
        [r.guest_access for r in rows],
        [r.encryption for r in rows],
        [r.replacement_room for r in rows],
        [r.is_federated for r in rows],
        [r.allowed_rooms for r in rows],
        [r.predecessor for r in rows],
    )


async def bump_positions(connection: Connection, room_numbers: Iterable[int]) -> dict[int, int]:
    """For each of these rooms the position of the newest event that moves it up in a list."""
    records = await connection.fetch(
        "SELECT room_number, bump_position FROM room_heads WHERE room_number = ANY($1::bigint[])",
        list(room_numbers),
    )
    return {record[0]: record[1] for record in records}
