"""Where somebody typed before the server ended: the table `typing_before_end`."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.store.database import Connection


async def put(connection: Connection, room_ids: Sequence[str]) -> None:
    """Remember rooms for the next start."""
    await connection.execute(
        """
        INSERT INTO typing_before_end (room_id) SELECT unnest($1::text[])
        ON CONFLICT (room_id) DO NOTHING
        """,
        room_ids,
    )


async def take(connection: Connection) -> list[str]:
    """The rooms that were remembered, once."""
    records = await connection.fetch("DELETE FROM typing_before_end RETURNING room_id")
    return [record[0] for record in records]
