"""The table `waiting_redactions`: redactions of events that we don't have yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class WaitingRedaction(Struct, frozen=True):
    """A redaction (by number and id) of an event that hasn't come.

    `by_power`: its sender may redact anybody's events. `timeline_order`: the place that is its own.
    """

    number: int
    room_number: int
    event_id: str
    redacts: str
    by_power: bool
    timeline_order: int


async def insert(connection: Connection, rows: Sequence[WaitingRedaction]) -> None:
    """Have these wait; the redactions themselves must be in the transaction."""
    await connection.execute(
        """
        INSERT INTO waiting_redactions (number, room_number, redacts, by_power, timeline_order)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::bigint[])
        ON CONFLICT (number) DO NOTHING
        """,
        [row.number for row in rows],
        [row.room_number for row in rows],
        [row.redacts for row in rows],
        [row.by_power for row in rows],
        [row.timeline_order for row in rows],
    )


async def delete(connection: Connection, numbers: Iterable[int]) -> None:
    """These (by number) wait no more."""
    await connection.execute(
        "DELETE FROM waiting_redactions WHERE number = ANY($1::bigint[])", list(numbers)
    )


async def of_targets(
    connection: Connection, room_number: int, event_ids: Iterable[str]
) -> list[WaitingRedaction]:
    """What waits for any of these events, in the order in which it came."""
    records = await connection.fetch(
        """
        SELECT w.number, w.room_number, e.event_id, w.redacts, w.by_power, w.timeline_order
        FROM waiting_redactions w JOIN events e USING (number)
        WHERE w.room_number = $1 AND w.redacts = ANY($2::text[])
        ORDER BY w.number
        """,
        room_number,
        list(event_ids),
    )
    return [WaitingRedaction(*record) for record in records]


async def rooms_with_any(connection: Connection, room_numbers: Sequence[int]) -> set[int]:
    """Those of these rooms in which something waits."""
    records = await connection.fetch(
        """
        SELECT room_number FROM unnest($1::bigint[]) AS room (room_number)
        WHERE EXISTS (SELECT FROM waiting_redactions w WHERE w.room_number = room.room_number)
        """,
        list(room_numbers),
    )
    return {record[0] for record in records}
