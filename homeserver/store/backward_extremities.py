"""The table `backward_extremities`: prev_events of our events that we lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.store.database import Connection
from homeserver.store.events import Flag

_REFUSED = Flag.REJECTED | Flag.SOFT_FAILED | Flag.HIDDEN


async def put(connection: Connection, rows: Sequence[tuple[int, str, int]]) -> None:
    """Missing events as (room number, event id, timeline order of the event that refers to it)."""
    await connection.execute(
        f"""
        INSERT INTO backward_extremities (room_number, event_id, timeline_order)
        SELECT DISTINCT ON (event_id) * FROM unnest($1::bigint[], $2::text[], $3::bigint[])
            AS t (room_number, event_id, timeline_order)
        WHERE NOT EXISTS (
            SELECT FROM events e
            WHERE e.event_id = t.event_id
              AND (e.timeline_order IS NOT NULL OR e.flags & {_REFUSED} <> 0)
        )
        ORDER BY event_id, timeline_order
        ON CONFLICT (event_id) DO UPDATE
        SET timeline_order = LEAST(
            backward_extremities.timeline_order, EXCLUDED.timeline_order
        )
        """,  # noqa: S608 - constant
        [room_number for room_number, _, _ in rows],
        [event_id for _, event_id, _ in rows],
        [order for _, _, order in rows],
    )


async def delete(connection: Connection, event_ids: Iterable[str]) -> None:
    """These events are no longer missing, or nobody has them."""
    await connection.execute(
        "DELETE FROM backward_extremities WHERE event_id = ANY($1::text[])", list(event_ids)
    )


async def between(
    connection: Connection, room_number: int, after: int, upto: int
) -> list[tuple[str, int]]:
    """Missing events (id, order of what refers to them) with `after < order <= upto`, the newest
    first.
    """
    records = await connection.fetch(
        """
        SELECT event_id, timeline_order FROM backward_extremities
        WHERE room_number = $1 AND timeline_order > $2 AND timeline_order <= $3
        ORDER BY timeline_order DESC
        """,
        room_number,
        after,
        upto,
    )
    return [(record[0], record[1]) for record in records]


async def of_lower_events(connection: Connection, event_ids: Iterable[str], order: int) -> set[str]:
    """Those of these events that are missing below an order (the lowest events refer to them)."""
    records = await connection.fetch(
        """
        SELECT event_id FROM backward_extremities
        WHERE event_id = ANY($1::text[]) AND timeline_order < $2
        """,
        list(event_ids),
        order,
    )
    return {record[0] for record in records}


async def of_rooms(
    connection: Connection, room_numbers: Iterable[int]
) -> dict[int, dict[str, int]]:
    """Of these rooms: missing event -> order of the lowest event that refers to it."""
    records = await connection.fetch(
        """
        SELECT room_number, event_id, timeline_order FROM backward_extremities
        WHERE room_number = ANY($1::bigint[])
        """,
        list(room_numbers),
    )
    found: dict[int, dict[str, int]] = {}
    for room_number, event_id, order in records:
        found.setdefault(room_number, {})[event_id] = order
    return found


async def highest_below(connection: Connection, room_number: int, before: int) -> int | None:
    """The highest order below an order that is anything's, also a waiting redaction's."""
    order: int | None = await connection.fetchval(
        """
        SELECT greatest(
            (SELECT max(timeline_order) FROM events
             WHERE room_number = $1 AND timeline_order < $2),
            (SELECT max(timeline_order) FROM waiting_redactions
             WHERE room_number = $1 AND timeline_order < $2))
        """,
        room_number,
        before,
    )
    return order


async def lowest(connection: Connection, room_number: int) -> int | None:
    """The order at which a room's history begins, as far as we have it."""
    order: int | None = await connection.fetchval(
        """
        SELECT least(
            (SELECT min(timeline_order) FROM events WHERE room_number = $1),
            (SELECT min(timeline_order) FROM waiting_redactions WHERE room_number = $1))
        """,
        room_number,
    )
    return order
