"""The few events of a room that decide who may see its history."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.store.database import Connection


class DecidingEvent(Struct, frozen=True):
    """An `m.room.history_visibility` event, or an `m.room.member` event of the reader."""

    room_number: int
    timeline_order: int
    type: str
    content: JsonObject


class _Pdu(msgspec.Struct):
    content: JsonObject


_decode = msgspec.json.Decoder(_Pdu).decode


class VisibilityStart(Struct, frozen=True):
    """The history visibility that held before the event at an order, where history begins anew."""

    room_number: int
    timeline_order: int
    visibility: str


async def put_starts(connection: Connection, starts: Sequence[VisibilityStart]) -> None:
    await connection.execute(
        """
        INSERT INTO visibility_starts (room_number, timeline_order, visibility)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])
        ON CONFLICT DO NOTHING
        """,
        [start.room_number for start in starts],
        [start.timeline_order for start in starts],
        [start.visibility for start in starts],
    )


async def starts(connection: Connection, room_numbers: Sequence[int]) -> list[VisibilityStart]:
    """Of these rooms, in the order of the timeline."""
    records = await connection.fetch(
        """
        SELECT room_number, timeline_order, visibility FROM visibility_starts
        WHERE room_number = ANY($1::bigint[]) ORDER BY timeline_order
        """,
        list(room_numbers),
    )
    return [VisibilityStart(*record) for record in records]


async def deciding_events(
    connection: Connection, room_numbers: Sequence[int], user_id: str
) -> list[DecidingEvent]:
    """The deciding events in these rooms' timelines, in the order of the timeline."""
    records = await connection.fetch(
        """
        SELECT room_number, timeline_order, type, json FROM events
        WHERE room_number = ANY($1::bigint[]) AND timeline_order IS NOT NULL
          AND type IN ('m.room.member', 'm.room.history_visibility')
          AND state_key IN ($2, '')
          AND (type = 'm.room.member') = (state_key = $2)
        ORDER BY timeline_order
        """,
        list(room_numbers),
        user_id,
    )
    return [DecidingEvent(r[0], r[1], r[2], _decode(r[3]).content) for r in records]


async def latest_starts(connection: Connection, room_numbers: Sequence[int]) -> dict[int, int]:
    """Of these rooms, where history began anew the last time: room number -> timeline order."""
    records = await connection.fetch(
        """
        SELECT room_number, max(timeline_order) FROM visibility_starts
        WHERE room_number = ANY($1::bigint[]) GROUP BY room_number
        """,
        list(room_numbers),
    )
    return {record[0]: record[1] for record in records}
