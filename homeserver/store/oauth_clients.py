"""Clients that registered for OAuth 2.0: the table `oauth_clients`."""

from __future__ import annotations

from homeserver.store.database import Connection


async def find(connection: Connection, client_id: str) -> str | None:
    """The client's metadata as JSON."""
    metadata: str | None = await connection.fetchval(
        "SELECT metadata FROM oauth_clients WHERE client_id = $1", client_id
    )
    return metadata


async def put(connection: Connection, client_id: str, metadata: str, now: int) -> bool:
    """Register the client, or note that it is in use; whether it is new."""
    is_new: bool = await connection.fetchval(
        """
        INSERT INTO oauth_clients (client_id, metadata, used_at) VALUES ($1, $2, $3)
        ON CONFLICT (client_id) DO UPDATE SET used_at = EXCLUDED.used_at
        RETURNING xmax = 0
        """,
        client_id,
        metadata,
        now,
    )
    return is_new


async def prune(connection: Connection, before: int, keep: int) -> None:
    """Forget clients that nobody is logged in with: those last used before a time, and all but
    the `keep` that were used last."""
    await connection.execute(
        """
        DELETE FROM oauth_clients c
        WHERE used_at < greatest($1, coalesce(
                  (SELECT used_at FROM oauth_clients ORDER BY used_at DESC OFFSET $2 LIMIT 1), 0))
          AND NOT EXISTS (SELECT FROM refresh_tokens WHERE oauth_client = c.client_id)
        """,
        before,
        keep,
    )
