"""The room aliases of this server: the table `room_aliases`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class AliasRow(Struct, frozen=True):
    """`creator` is the user who made it; `created_at` in milliseconds."""

    alias: str
    room_id: str
    creator: str
    created_at: int


async def insert(connection: Connection, rows: Sequence[AliasRow]) -> None:
    """Add aliases; one that exists already stays as it is."""
    await connection.execute(
        """
        INSERT INTO room_aliases (alias, room_id, creator, created_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        ON CONFLICT DO NOTHING
        """,
        [r.alias for r in rows],
        [r.room_id for r in rows],
        [r.creator for r in rows],
        [r.created_at for r in rows],
    )


async def find(connection: Connection, alias: str) -> AliasRow | None:
    """The alias, if it exists."""
    record = await connection.fetchrow(
        "SELECT alias, room_id, creator, created_at FROM room_aliases WHERE alias = $1", alias
    )
    return None if record is None else AliasRow(*record)


async def of_room(connection: Connection, room_id: str) -> list[str]:
    """The aliases that point to a room, the oldest first."""
    records = await connection.fetch(
        "SELECT alias FROM room_aliases WHERE room_id = $1 ORDER BY created_at, alias", room_id
    )
    return [record[0] for record in records]


async def delete(connection: Connection, alias: str) -> bool:
    """Remove an alias; False if it didn't exist."""
    found = await connection.fetchval(
        "DELETE FROM room_aliases WHERE alias = $1 RETURNING true", alias
    )
    return found is not None


async def move(connection: Connection, old_room_id: str, new_room_id: str) -> None:
    """Let the aliases of a room point to the one that replaces it."""
    await connection.execute(
        "UPDATE room_aliases SET room_id = $2 WHERE room_id = $1", old_room_id, new_room_id
    )


async def all_aliases(connection: Connection) -> list[tuple[str, str]]:
    """Every alias of this server with the room id that it points to."""
    records = await connection.fetch("SELECT alias, room_id FROM room_aliases")
    return [(record[0], record[1]) for record in records]
