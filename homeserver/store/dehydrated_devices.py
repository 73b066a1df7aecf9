"""Dehydrated devices: the table `dehydrated_devices`. MSC3814"""

from __future__ import annotations

from homeserver.store.database import Connection


async def put(connection: Connection, user_id: str, device_id: str, device_data: bytes) -> None:
    """A user's dehydrated device; they have one at most."""
    await connection.execute(
        """
        INSERT INTO dehydrated_devices (user_id, device_id, device_data) VALUES ($1, $2, $3)
        ON CONFLICT (user_id) DO UPDATE
        SET device_id = excluded.device_id, device_data = excluded.device_data
        """,
        user_id,
        device_id,
        device_data,
    )


async def get(connection: Connection, user_id: str) -> tuple[str, bytes] | None:
    """The device id and the device's data, as JSON."""
    row = await connection.fetchrow(
        "SELECT device_id, device_data FROM dehydrated_devices WHERE user_id = $1", user_id
    )
    return (row[0], row[1]) if row is not None else None
