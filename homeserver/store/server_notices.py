"""The rooms for server notices, one per user."""

from __future__ import annotations

from homeserver.store.database import Connection


async def room_of(connection: Connection, user_id: str) -> str | None:
    room_id: str | None = await connection.fetchval(
        "SELECT room_id FROM server_notice_rooms WHERE user_id = $1", user_id
    )
    return room_id


async def put(connection: Connection, user_id: str, room_id: str) -> None:
    await connection.execute(
        """
        INSERT INTO server_notice_rooms (user_id, room_id) VALUES ($1, $2)
        ON CONFLICT (user_id) DO UPDATE SET room_id = excluded.room_id
        """,
        user_id,
        room_id,
    )
