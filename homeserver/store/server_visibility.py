"""The events of a room that decide what another server may see of its history."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.store.database import Connection


class ServerDecidingEvent(Struct, frozen=True):
    """A history visibility, or the membership of a user of the server."""

    timeline_order: int
    type: str
    state_key: str
    content: JsonObject


class _Pdu(msgspec.Struct):
    content: JsonObject


_decode = msgspec.json.Decoder(_Pdu).decode


async def visibilities(connection: Connection, room_number: int) -> list[JsonObject]:
    """The contents of all history visibility events of a room, placed or not."""
    records = await connection.fetch(
        """
        SELECT json FROM events
        WHERE room_number = $1 AND state_key = '' AND timeline_order IS NOT NULL
          AND type = 'm.room.history_visibility'
        """,
        room_number,
    )
    return [_decode(record[0]).content for record in records]


async def deciding_events(
    connection: Connection, room_number: int, server_name: str
) -> list[ServerDecidingEvent]:
    """In the order of the timeline."""
    records = await connection.fetch(
        """
        SELECT timeline_order, type, state_key, json FROM events
        WHERE room_number = $1 AND timeline_order IS NOT NULL
          AND type IN ('m.room.member', 'm.room.history_visibility')
          AND (state_key = '' OR substr(state_key, strpos(state_key, ':') + 1) = $2)
        ORDER BY timeline_order
        """,
        room_number,
        server_name,
    )
    return [ServerDecidingEvent(r[0], r[1], r[2], _decode(r[3]).content) for r in records]
