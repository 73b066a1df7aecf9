"""The identity keys of local devices: the table `device_keys`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class DeviceKeysRow(Struct, frozen=True):
    """`json` is the signed object as canonical bytes, without `unsigned`."""

    user_id: str
    device_id: str
    json: bytes


class PublishedDevice(Struct, frozen=True):
    """A device with keys, and what its user calls it."""

    user_id: str
    device_id: str
    json: bytes
    display_name: str | None


async def put(connection: Connection, rows: Sequence[DeviceKeysRow]) -> None:
    """Set the keys of devices; the last of equal devices wins, unknown devices are passed over."""
    last = {(r.user_id, r.device_id): r for r in rows}
    unique = list(last.values())
    await connection.execute(
        """
        INSERT INTO device_keys (user_id, device_id, json)
        SELECT k.user_id, k.device_id, k.json
        FROM unnest($1::text[], $2::text[], $3::bytea[]) AS k (user_id, device_id, json)
        JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id
        FOR KEY SHARE OF d
        ON CONFLICT (user_id, device_id) DO UPDATE SET json = excluded.json
        """,
        [r.user_id for r in unique],
        [r.device_id for r in unique],
        [r.json for r in unique],
    )


async def get(connection: Connection, user_id: str, device_id: str) -> bytes | None:
    """The keys of one device."""
    json: bytes | None = await connection.fetchval(
        "SELECT json FROM device_keys WHERE user_id = $1 AND device_id = $2", user_id, device_id
    )
    return json


async def of_users(connection: Connection, user_ids: Sequence[str]) -> list[PublishedDevice]:
    """All devices with keys of these users, by user and device id."""
    records = await connection.fetch(
        """
        SELECT user_id, device_id, json, display_name
        FROM device_keys JOIN devices USING (user_id, device_id)
        WHERE user_id = ANY($1::text[]) ORDER BY user_id, device_id
        """,
        user_ids,
    )
    return [PublishedDevice(*record) for record in records]
