"""Profiles of local users: field by field, as JSON."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from homeserver.json_types import JsonObject
from homeserver.store.database import Connection


async def get(connection: Connection, user_id: str) -> JsonObject:
    """All profile fields of a user; empty if they have none."""
    records = await connection.fetch("SELECT key, value FROM profiles WHERE user_id = $1", user_id)
    return {key: msgspec.json.decode(value) for key, value in records}


async def get_many(connection: Connection, user_ids: Iterable[str]) -> dict[str, JsonObject]:
    """The profiles of these users, as far as they have one."""
    records = await connection.fetch(
        "SELECT user_id, key, value FROM profiles WHERE user_id = ANY($1::text[])", list(user_ids)
    )
    found: dict[str, JsonObject] = {}
    for user_id, key, value in records:
        found.setdefault(user_id, {})[key] = msgspec.json.decode(value)
    return found


async def put(connection: Connection, user_id: str, key: str, value: bytes) -> None:
    """Set a field to this JSON."""
    await connection.execute(
        """
        INSERT INTO profiles (user_id, key, value) VALUES ($1, $2, $3)
        ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value
        """,
        user_id,
        key,
        value,
    )


async def delete(connection: Connection, user_id: str, key: str) -> None:
    """Remove a field, if it is there."""
    await connection.execute("DELETE FROM profiles WHERE user_id = $1 AND key = $2", user_id, key)


async def delete_all(connection: Connection, user_id: str) -> None:
    """Forget the whole profile."""
    await connection.execute("DELETE FROM profiles WHERE user_id = $1", user_id)
