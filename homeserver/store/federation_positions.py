"""The tables `federation_sender` and `federation_behind`: who has what up to where."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.store.database import Connection


async def load(connection: Connection) -> tuple[int, dict[str, int]]:
    """The position up to which everybody has everything, and those who are behind it."""
    position = await connection.fetchval("SELECT position FROM federation_sender")
    rows = await connection.fetch("SELECT destination, position FROM federation_behind")
    return position, {row[0]: row[1] for row in rows}


async def move(connection: Connection, position: int) -> None:
    """Set the position up to which all others have everything."""
    await connection.execute("UPDATE federation_sender SET position = $1", position)


async def put_behind(connection: Connection, behind: Mapping[str, int]) -> None:
    """Set who is behind it, and where."""
    await connection.execute(
        "DELETE FROM federation_behind WHERE destination <> ALL($1::text[])", list(behind)
    )
    if behind:
        await connection.execute(
            """
            INSERT INTO federation_behind (destination, position)
            SELECT * FROM unnest($1::text[], $2::bigint[])
            ON CONFLICT (destination) DO UPDATE SET position = EXCLUDED.position
            """,
            list(behind),
            list(behind.values()),
        )
