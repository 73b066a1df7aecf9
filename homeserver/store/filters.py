"""Filters that clients have uploaded."""

from __future__ import annotations

from hashlib import sha256

from homeserver.store.database import Connection


async def add(connection: Connection, user_id: str, definition: bytes) -> int:
    """Keep a filter (canonical JSON), in a transaction; the id of an equal one if there is one."""
    # Two uploads at once would take the same number.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", user_id)
    filter_id: int = await connection.fetchval(
        """
        INSERT INTO filters (user_id, filter_id, definition, digest)
        SELECT $1, coalesce(max(filter_id), 0) + 1, $2, $3 FROM filters WHERE user_id = $1
        ON CONFLICT (user_id, digest) DO UPDATE SET definition = excluded.definition
        RETURNING filter_id
        """,
        user_id,
        definition,
        sha256(definition).digest(),
    )
    return filter_id


async def get(connection: Connection, user_id: str, filter_id: int) -> bytes | None:
    """A user's filter."""
    definition: bytes | None = await connection.fetchval(
        "SELECT definition FROM filters WHERE user_id = $1 AND filter_id = $2", user_id, filter_id
    )
    return definition
