"""What is kept of presence over a restart."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class PresenceRow(Struct, frozen=True):
    user_id: str
    status_msg: str | None
    last_active_ts: int


async def load(connection: Connection) -> list[PresenceRow]:
    """Everybody's."""
    records = await connection.fetch("SELECT user_id, status_msg, last_active_ts FROM presence")
    return [PresenceRow(*record) for record in records]


async def put(connection: Connection, rows: Sequence[PresenceRow]) -> None:
    """Set these users' presence."""
    await connection.execute(
        """
        INSERT INTO presence (user_id, status_msg, last_active_ts)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
        ON CONFLICT (user_id) DO UPDATE
        SET status_msg = excluded.status_msg, last_active_ts = excluded.last_active_ts
        """,
        [r.user_id for r in rows],
        [r.status_msg for r in rows],
        [r.last_active_ts for r in rows],
    )
