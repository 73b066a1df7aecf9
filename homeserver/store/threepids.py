"""Mail addresses and phone numbers of local accounts: the table `threepids`.

client-server-api#adding-account-administrative-contact-information
"""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection


class Threepid(Struct, frozen=True):
    """A third-party identifier; times are in milliseconds since the epoch."""

    medium: str
    address: str
    validated_at: int
    added_at: int


async def of_user(connection: Connection, user_id: str) -> list[Threepid]:
    rows = await connection.fetch(
        """
        SELECT medium, address, validated_at, added_at FROM threepids
        WHERE user_id = $1 ORDER BY added_at, address
        """,
        user_id,
    )
    return [Threepid(**row) for row in rows]


async def owner(connection: Connection, medium: str, address: str) -> str | None:
    """The user id whose identifier this is."""
    user_id: str | None = await connection.fetchval(
        "SELECT user_id FROM threepids WHERE medium = $1 AND address = $2", medium, address
    )
    return user_id


async def add(connection: Connection, user_id: str, threepid: Threepid) -> bool:
    """False if it belongs to somebody (also to this user)."""
    added = await connection.fetchval(
        """
        INSERT INTO threepids (medium, address, user_id, validated_at, added_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true
        """,
        threepid.medium,
        threepid.address,
        user_id,
        threepid.validated_at,
        threepid.added_at,
    )
    return added is not None


async def delete(connection: Connection, user_id: str, medium: str, address: str) -> bool:
    """False if the user has no such identifier."""
    gone = await connection.fetchval(
        """
        DELETE FROM threepids WHERE user_id = $1 AND medium = $2 AND address = $3 RETURNING true
        """,
        user_id,
        medium,
        address,
    )
    return gone is not None


async def delete_all(connection: Connection, user_id: str) -> None:
    await connection.execute("DELETE FROM threepids WHERE user_id = $1", user_id)
