"""How far the followers of the log have read it."""

from __future__ import annotations

from homeserver.store.database import Connection


async def get(connection: Connection, follower: str) -> int:
    """The stream position up to which a follower has read; 0 if it never did."""
    position: int | None = await connection.fetchval(
        "SELECT position FROM follower_positions WHERE follower = $1", follower
    )
    return position or 0


async def put(connection: Connection, follower: str, position: int) -> None:
    """Remember it, in the transaction that writes what the follower made of it."""
    await connection.execute(
        """
        INSERT INTO follower_positions (follower, position) VALUES ($1, $2)
        ON CONFLICT (follower) DO UPDATE SET position = excluded.position
        """,
        follower,
        position,
    )
