"""The log's rows: events, with the transaction ids that local sends came with, and rooms' heads.

Rules of this file: events are never edited, only marked (`redacted_by`); everything that one batch
of the stream writer brings is written by a single statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg
from msgspec import Struct

from homeserver.protocol.push_outcomes import NO_PUSH, PushOutcomes, push_outcomes
from homeserver.store.database import Connection

ORDER_STEP = 65536
"""Room between the timeline orders of two live events, for history that is fetched later."""

LOWEST_ORDER = -(2**63)
HIGHEST_ORDER = 2**63 - 1


class Flag:
    """Marks of a stored event, with the specification's meaning: bits of plain integers.

    (An `IntFlag` costs a microsecond a question, and loading asks ten thousand times.)
    """

    REJECTED: Final = 1
    SOFT_FAILED: Final = 2
    OUTLIER: Final = 4
    RESOLVED: Final = 8  # the room's current state changed by more than this event's own key
    HIDDEN: Final = 16  # accepted, but no client is told (stream.hidden_events)
    RELAYED: Final = 32  # somebody else's, but it is for us to tell the room's other servers


class EventRow(Struct, frozen=True, gc=False):
    """An event as it stands in the database. `json` is the PDU's canonical bytes.

    A Struct, because a page of history makes hundreds of them in no time.
    `thread_root` is the root of the thread that the event is in, None for the main timeline.
    `device_id` and `transaction_id` are of the request with which a local device sent it, if any.
    """

    number: int
    room_number: int
    timeline_order: int | None
    event_id: str
    type: str
    state_key: str | None
    sender: str
    origin_server_ts: int
    state_group: int | None
    replaces: int | None
    auth_events: tuple[int, ...]
    flags: int
    redacted_by: int | None
    json: bytes
    thread_root: str | None = None
    push: PushOutcomes = NO_PUSH
    device_id: str | None = None
    transaction_id: str | None = None


class HeadRow(Struct, frozen=True):
    """What the next event of a room builds on."""

    room_number: int
    forward_extremities: tuple[str, ...]
    depth: int
    state_group: int
    last_position: int
    bump_position: int = 0
    """Of the newest event that moves the room up in a list; 0: as it was."""


EVENT_COLUMNS = (
    "e.number, e.room_number, e.timeline_order, e.event_id, e.type, e.state_key, e.sender, "
    "e.origin_server_ts, e.state_group, e.replaces, e.auth_events, e.flags, e.redacted_by, e.json, "
    "e.thread_root, e.push, e.push_sets, e.push_users, e.device_id, e.transaction_id"
)

# (Heads: UPDATE and INSERT apart would write 54 bytes less to the log, and cost a fifth more CPU.)
_APPEND = """
WITH new_events AS (
    INSERT INTO events (number, room_number, timeline_order, event_id, type, state_key, sender,
                        origin_server_ts, state_group, replaces, auth_events, flags, redacted_by,
                        json, thread_root, push, push_sets, push_users, device_id, transaction_id)
    SELECT number, room_number, timeline_order, event_id, type, state_key, sender,
           origin_server_ts, state_group, replaces, auth_events::bigint[], flags, redacted_by, json,
           thread_root, push, push_sets::bigint[], push_users::text[], device_id, transaction_id
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::smallint[],
                $13::bigint[], $14::bytea[], $21::text[], $22::smallint[], $23::text[],
                $24::text[], $25::text[], $26::text[])
      AS t (number, room_number, timeline_order, event_id, type, state_key, sender,
            origin_server_ts, state_group, replaces, auth_events, flags, redacted_by, json,
            thread_root, push, push_sets, push_users, device_id, transaction_id)
)
INSERT INTO room_heads (room_number, forward_extremities, depth, state_group, last_position,
                        bump_position)
SELECT room_number, forward_extremities::text[], depth, state_group, last_position, bump_position
FROM unnest($15::bigint[], $16::text[], $17::bigint[], $18::bigint[], $19::bigint[],
            $20::bigint[])
  AS t (room_number, forward_extremities, depth, state_group, last_position, bump_position)
ON CONFLICT (room_number) DO UPDATE
SET forward_extremities = excluded.forward_extremities, depth = excluded.depth,
    state_group = excluded.state_group, last_position = excluded.last_position,
    bump_position = greatest(room_heads.bump_position, excluded.bump_position)
"""


def _array_literal(values: Iterable[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def text_array_literal(values: Iterable[str]) -> str:
    """An SQL array as text, for arrays within arrays. Ids of room version 1 hold any character."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _push_columns(events: Sequence[EventRow]) -> tuple[list[Any], ...]:
    """`thread_root`, `push`, `push_sets`, `push_users`."""
    return (
        [e.thread_root for e in events],
        [e.push.default for e in events],
        [_array_literal(e.push.stored_sets) if e.push.sets else None for e in events],
        [text_array_literal(e.push.stored_personal) if e.push.personal else None for e in events],
    )


async def append(
    connection: Connection, events: Sequence[EventRow], heads: Sequence[HeadRow]
) -> None:
    """Write one batch of the stream: its events and the heads they leave."""
    await connection.execute(
        _APPEND,
        [e.number for e in events],
        [e.room_number for e in events],
        [e.timeline_order for e in events],
        [e.event_id for e in events],
        [e.type for e in events],
        [e.state_key for e in events],
        [e.sender for e in events],
        [e.origin_server_ts for e in events],
        [e.state_group for e in events],
        [e.replaces for e in events],
        [_array_literal(e.auth_events) for e in events],
        [e.flags for e in events],
        [e.redacted_by for e in events],
        [e.json for e in events],
        [h.room_number for h in heads],
        [text_array_literal(h.forward_extremities) for h in heads],
        [h.depth for h in heads],
        [h.state_group for h in heads],
        [h.last_position for h in heads],
        [h.bump_position for h in heads],
        *_push_columns(events),
        [e.device_id for e in events],
        [e.transaction_id for e in events],
    )


async def place(
    connection: Connection, events: Sequence[EventRow], positions: Sequence[int]
) -> None:
    """Give outliers, by number, their place in the timeline and the state before them.

    The stream positions at which they get it are kept for followers.
    """
    await connection.execute(
        """
        WITH later AS (
            INSERT INTO placed_later (position, number)
            SELECT * FROM unnest($10::bigint[], $1::bigint[])
        )
        UPDATE events
        SET timeline_order = t.timeline_order, state_group = t.state_group,
            replaces = t.replaces, flags = t.flags, thread_root = t.thread_root,
            push = t.push, push_sets = t.push_sets::bigint[], push_users = t.push_users::text[]
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[],
                    $6::text[], $7::smallint[], $8::text[], $9::text[])
          AS t (number, timeline_order, state_group, replaces, flags, thread_root, push, push_sets,
                push_users)
        WHERE events.number = t.number
        """,
        [e.number for e in events],
        [e.timeline_order for e in events],
        [e.state_group for e in events],
        [e.replaces for e in events],
        [e.flags for e in events],
        *_push_columns(events),
        list(positions),
    )


async def prune_placed_later(connection: Connection) -> None:
    """Forget when events got their place, as far as all who follow the log have read."""
    await connection.execute(
        """
        DELETE FROM placed_later WHERE position <= least(
            (SELECT min(position) FROM follower_positions),
            (SELECT position FROM media_links_position),
            (SELECT min(position) FROM app_services))
        """
    )


async def mark_redacted(connection: Connection, redactions: Sequence[tuple[str, int]]) -> None:
    """Mark events (by id) as hit by a redaction (its number). The first redaction stays."""
    await connection.execute(
        """
        UPDATE events SET redacted_by = r.number
        FROM unnest($1::text[], $2::bigint[]) AS r (event_id, number)
        WHERE events.event_id = r.event_id AND events.redacted_by IS NULL
        """,
        [event_id for event_id, _ in redactions],
        [number for _, number in redactions],
    )


async def set_replaced(connection: Connection, replaced: Sequence[tuple[int, int]]) -> None:
    """Events replaced these state events (both by number), as was not known when they came."""
    await connection.execute(
        """
        UPDATE events SET replaces = r.replaces
        FROM unnest($1::bigint[], $2::bigint[]) AS r (number, replaces)
        WHERE events.number = r.number
        """,
        [number for number, _ in replaced],
        [old for _, old in replaced],
    )


async def take_back(connection: Connection, numbers: Sequence[int]) -> None:
    """Events lose their places: they are outliers again."""
    await connection.execute(
        """
        UPDATE events SET timeline_order = NULL, state_group = NULL, replaces = NULL, flags = $2
        WHERE number = ANY($1::bigint[])
        """,
        list(numbers),
        Flag.OUTLIER,
    )


async def touch_head(connection: Connection, room_number: int, position: int) -> None:
    """Something that isn't an event happened in a room."""
    await connection.execute(
        "UPDATE room_heads SET last_position = greatest(last_position, $2) WHERE room_number = $1",
        room_number,
        position,
    )


async def placed_since(connection: Connection, room_number: int, position: int) -> list[EventRow]:
    """What came into a room's timeline live, or was refused a place there, after a position."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS} FROM events e WHERE e.number IN (
            SELECT number FROM events WHERE room_number = $1 AND timeline_order > $2
            UNION
            SELECT number FROM events
            WHERE number > $3 AND room_number = $1 AND state_group IS NOT NULL
        )
        """,  # noqa: S608 - constant
        room_number,
        position * ORDER_STEP,
        position,
    )
    return [event_row(record) for record in records]


def event_row(record: asyncpg.Record) -> EventRow:
    """The event in a record that begins with EVENT_COLUMNS."""
    return EventRow(
        record[0],
        record[1],
        record[2],
        record[3],
        record[4],
        record[5],
        record[6],
        record[7],
        record[8],
        record[9],
        tuple(record[10]),
        record[11],
        record[12],
        record[13],
        record[14],
        push_outcomes(record[15], record[16], record[17]),
        record[18],
        record[19],
    )


async def by_ids(connection: Connection, event_ids: Iterable[str]) -> list[EventRow]:
    """The events among `event_ids` that we have, in no order."""
    records = await connection.fetch(
        f"SELECT {EVENT_COLUMNS} FROM events e WHERE e.event_id = ANY($1::text[])",  # noqa: S608 - constant
        list(event_ids),
    )
    return [event_row(record) for record in records]


async def by_numbers(connection: Connection, numbers: Iterable[int]) -> list[EventRow]:
    """The events with these numbers, in no order."""
    records = await connection.fetch(
        f"SELECT {EVENT_COLUMNS} FROM events e WHERE e.number = ANY($1::bigint[])",  # noqa: S608 - constant
        list(numbers),
    )
    return [event_row(record) for record in records]


async def sent_by_device(
    connection: Connection, user_id: str, device_id: str, limit: int
) -> list[tuple[str, str]]:
    """What a device has sent, (transaction id, event id), the newest last.

    As far as it is among the newest `limit` events that the user sent with transaction ids, and
    not by a device of the same name that was logged out. (Application services may date events
    back, and log nobody out.)
    """
    records = await connection.fetch(
        """
        SELECT transaction_id, event_id FROM (
            SELECT number, device_id, transaction_id, event_id, origin_server_ts FROM events
            WHERE sender = $1 AND device_id IS NOT NULL
            ORDER BY number DESC LIMIT $3
        ) AS newest
        WHERE device_id = $2 AND origin_server_ts >= coalesce((
            SELECT d.created_at FROM devices d JOIN accounts a USING (user_id)
            WHERE d.user_id = $1 AND d.device_id = $2 AND a.app_service IS NULL), 0)
        ORDER BY number
        """,
        user_id,
        device_id,
        limit,
    )
    return [(record[0], record[1]) for record in records]


async def rooms_changed(
    connection: Connection, room_numbers: Sequence[int], after: int
) -> list[int]:
    """Which of these rooms have timeline events after a stream position."""
    records = await connection.fetch(
        """
        SELECT room_number FROM room_heads
        WHERE room_number = ANY($1::bigint[]) AND last_position > $2
        """,
        list(room_numbers),
        after,
    )
    return [record[0] for record in records]


class KnownEvent(Struct, frozen=True):
    """What says whether an event can be built on."""

    event_id: str
    number: int
    type: str
    state_key: str | None
    flags: int
    state_group: int | None


async def known(connection: Connection, event_ids: Iterable[str]) -> dict[str, KnownEvent]:
    """Those of these events that we have, in short."""
    records = await connection.fetch(
        """
        SELECT event_id, number, type, state_key, flags, state_group FROM events
        WHERE event_id = ANY($1::text[])
        """,
        list(event_ids),
    )
    return {record[0]: KnownEvent(*record) for record in records}
