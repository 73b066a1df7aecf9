"""Reading a room's timeline: pages, with or without a filter, and what stood where.

Rules of this file: nothing is written here; the table belongs to `events`. A filtered page looks
at a bounded stretch of the timeline only, whatever the filter leaves of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg
import msgspec
from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import EVENT_COLUMNS, EventRow, event_row


class Stretch(Struct, frozen=True):
    """A stretch of a room's timeline, `after < timeline_order < before`, read from one end."""

    room_number: int
    after: int
    before: int
    limit: int
    backwards: bool


class Narrowing(Struct, frozen=True):
    """What a filter lets through, as far as the database can tell; None: no restriction.

    `contains_url` only rules out events that certainly have no `url`.
    """

    types: list[str] | None = None
    not_types: list[str] | None = None
    senders: list[str] | None = None
    not_senders: list[str] | None = None
    contains_url: bool = False
    related_by_types: list[str] | None = None
    related_by_senders: list[str] | None = None


class FoundEvent(msgspec.Struct, frozen=True, gc=False):
    """An event's names, and whether other events relate to it in a way that is bundled.

    Whoever has the event in memory needs no more; the others ask for it by number.
    """

    number: int
    order: int
    event_id: str
    has_children: bool


Found = list[FoundEvent]

_PAGE = """
SELECT e.number, e.timeline_order, e.event_id,
       EXISTS (SELECT FROM relations r WHERE r.parent_id = e.event_id
                 AND r.rel_type IN ('m.replace', 'm.thread', 'm.reference'))
FROM events e
WHERE e.room_number = $1 AND e.timeline_order > $2 AND e.timeline_order < $3
"""

_NARROWED = """
  AND ($5::text[] IS NULL OR e.type = ANY($5))
  AND ($6::text[] IS NULL OR e.type <> ALL($6))
  AND ($7::text[] IS NULL OR e.sender = ANY($7))
  AND ($8::text[] IS NULL OR e.sender <> ALL($8))
  AND (NOT $9::boolean OR position('"url":'::bytea IN e.json) > 0)
  AND ($10::text[] IS NULL AND $11::text[] IS NULL OR EXISTS (
      SELECT FROM relations r
      WHERE r.parent_id = e.event_id AND r.room_number = $1
        AND ($10 IS NULL OR r.rel_type = ANY($10)) AND ($11 IS NULL OR r.sender = ANY($11))))
"""

_END = {
    True: "ORDER BY e.timeline_order DESC LIMIT $4",
    False: "ORDER BY e.timeline_order LIMIT $4",
}


async def rows(connection: Connection, stretch: Stretch) -> list[EventRow]:
    """The first `limit` events of a stretch, in its direction."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS} FROM events e
        WHERE e.room_number = $1 AND e.timeline_order > $2 AND e.timeline_order < $3
        {_END[stretch.backwards]}
        """,  # noqa: S608 - constants
        stretch.room_number,
        stretch.after,
        stretch.before,
        stretch.limit,
    )
    return [event_row(record) for record in records]


async def ends(connection: Connection, room_numbers: Sequence[int], limit: int) -> list[EventRow]:
    """The newest `limit` live timeline events of each room, oldest first within a room."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS} FROM unnest($1::bigint[]) AS room (number)
        CROSS JOIN LATERAL (
            SELECT * FROM events
            WHERE events.room_number = room.number AND timeline_order IS NOT NULL
            ORDER BY timeline_order DESC LIMIT $2
        ) AS e
        ORDER BY e.room_number, e.timeline_order
        """,  # noqa: S608 - constant
        list(room_numbers),
        limit,
    )
    return [event_row(record) for record in records]


async def page(connection: Connection, stretch: Stretch) -> Found:
    """The first `limit` events of a stretch, in its direction."""
    records = await connection.fetch(
        _PAGE + _END[stretch.backwards],
        stretch.room_number,
        stretch.after,
        stretch.before,
        stretch.limit,
    )
    return _found(records)


async def narrowed_page(connection: Connection, stretch: Stretch, narrowing: Narrowing) -> Found:
    """The first `limit` events of a stretch that a filter may let through, in its direction."""
    records = await connection.fetch(
        _PAGE + _NARROWED + _END[stretch.backwards],
        stretch.room_number,
        stretch.after,
        stretch.before,
        stretch.limit,
        narrowing.types,
        narrowing.not_types,
        narrowing.senders,
        narrowing.not_senders,
        narrowing.contains_url,
        narrowing.related_by_types,
        narrowing.related_by_senders,
    )
    return _found(records)


def _found(records: Iterable[asyncpg.Record]) -> Found:
    return [FoundEvent(r[0], r[1], r[2], r[3]) for r in records]


async def order_at(connection: Connection, stretch: Stretch) -> int | None:
    """The order of the event number `limit` of a stretch; None if it has fewer."""
    direction = "DESC" if stretch.backwards else "ASC"
    order: int | None = await connection.fetchval(
        f"""
        SELECT timeline_order FROM events
        WHERE room_number = $1 AND timeline_order > $2 AND timeline_order < $3
        ORDER BY timeline_order {direction} OFFSET $4 - 1 LIMIT 1
        """,  # noqa: S608 - constants
        stretch.room_number,
        stretch.after,
        stretch.before,
        stretch.limit,
    )
    return order


async def members_before(
    connection: Connection, room_number: int, user_ids: Iterable[str], before: int
) -> list[EventRow]:
    """The newest member event of each of these users below an order of the timeline."""
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS} FROM unnest($2::text[]) AS member (user_id)
        CROSS JOIN LATERAL (
            SELECT * FROM events
            WHERE events.room_number = $1 AND events.state_key = member.user_id
              AND events.type IN ('m.room.member', 'm.room.history_visibility')
              AND events.type = 'm.room.member'
              AND events.timeline_order < $3
            ORDER BY events.timeline_order DESC LIMIT 1
        ) AS e
        """,  # noqa: S608 - constants
        room_number,
        list(user_ids),
        before,
    )
    return [event_row(record) for record in records]


async def closest_to(
    connection: Connection, room_number: int, ts: int, *, backwards: bool, beyond: int, limit: int
) -> list[tuple[int, int, str]]:
    """Timeline events (order, origin_server_ts, event id) at or after a time, or at or before it.

    The closest first, from the one number `beyond` on.
    """
    comparison, direction = ("<=", "DESC") if backwards else (">=", "ASC")
    records = await connection.fetch(
        f"""
        SELECT timeline_order, origin_server_ts, event_id FROM events
        WHERE room_number = $1 AND origin_server_ts {comparison} $2 AND timeline_order IS NOT NULL
        ORDER BY origin_server_ts {direction}, timeline_order {direction}
        OFFSET $3 LIMIT $4
        """,  # noqa: S608 - constants
        room_number,
        ts,
        beyond,
        limit,
    )
    return [(r[0], r[1], r[2]) for r in records]


async def around(
    connection: Connection, places: Iterable[tuple[int, int]], before: int, after: int
) -> list[tuple[int, EventRow]]:
    """The events next to each of these places (room number, order), the nearest first.

    Each with the index of its place.
    """
    wanted = list(places)
    records = await connection.fetch(
        f"""
        SELECT {EVENT_COLUMNS}, p.index FROM unnest($1::bigint[], $2::bigint[])
            WITH ORDINALITY AS p (room_number, place, index)
        CROSS JOIN LATERAL (
            (SELECT * FROM events
             WHERE events.room_number = p.room_number AND timeline_order < p.place
             ORDER BY timeline_order DESC LIMIT $3)
            UNION ALL
            (SELECT * FROM events
             WHERE events.room_number = p.room_number AND timeline_order > p.place
             ORDER BY timeline_order LIMIT $4)
        ) AS e
        ORDER BY p.index, abs(e.timeline_order - p.place)
        """,  # noqa: S608 - constants
        [room_number for room_number, _ in wanted],
        [order for _, order in wanted],
        before,
        after,
    )
    return [(record[-1] - 1, event_row(record)) for record in records]
