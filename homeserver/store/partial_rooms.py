"""The table `partial_rooms`: rooms that we entered before we had their whole state (MSC3706)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import text_array_literal


class PartialRow(Struct, frozen=True):
    """One row. `complete_from` is the stream position from which we have all, None: not yet.

    `servers` were in the room before us; the first is the one that let us in.
    """

    room_number: int
    join_event_id: str
    state_group: int
    servers: tuple[str, ...]
    complete_from: int | None = None
    corrected: bool = False


async def put(connection: Connection, rows: Sequence[PartialRow]) -> None:
    """Set what is to be known of rooms."""
    await connection.execute(
        """
        INSERT INTO partial_rooms (room_number, join_event_id, state_group, servers, complete_from,
                                   corrected)
        SELECT room_number, join_event_id, state_group, servers::text[], complete_from, corrected
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::boolean[])
          AS t (room_number, join_event_id, state_group, servers, complete_from, corrected)
        ON CONFLICT (room_number) DO UPDATE
        SET join_event_id = excluded.join_event_id, state_group = excluded.state_group,
            servers = excluded.servers, complete_from = excluded.complete_from,
            corrected = excluded.corrected
        """,
        [row.room_number for row in rows],
        [row.join_event_id for row in rows],
        [row.state_group for row in rows],
        [text_array_literal(row.servers) for row in rows],
        [row.complete_from for row in rows],
        [row.corrected for row in rows],
    )


async def delete(connection: Connection, room_numbers: Iterable[int]) -> None:
    """These were entered anew, with everything."""
    await connection.execute(
        "DELETE FROM partial_rooms WHERE room_number = ANY($1::bigint[])", list(room_numbers)
    )


async def incomplete(connection: Connection) -> list[str]:
    """The ids of the rooms whose state is yet to be fetched: those that we are still in."""
    records = await connection.fetch(
        """
        SELECT room_id FROM partial_rooms p JOIN rooms USING (room_number)
        WHERE complete_from IS NULL AND EXISTS (
            SELECT FROM memberships m
            WHERE m.room_number = p.room_number AND m.is_local AND m.membership = 'join')
        """
    )
    return [record[0] for record in records]
