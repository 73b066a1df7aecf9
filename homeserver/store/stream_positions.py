"""Who may give out stream positions, and from where on.

Positions are reserved ahead in large steps, so that a restart goes on above every position that
anybody was ever told, without a write for each.
"""

from __future__ import annotations

from homeserver.store.database import Connection

WRITER_LOCK = 0x4D61747269780001
"""Key of the session-level advisory lock of the process that writes."""


class WriterLockTaken(Exception):
    """Another process writes to this database: two of them would give out the same positions."""


async def take_lock(connection: Connection) -> int:
    """Take the writer lock for this session; the reserved position. Raises WriterLockTaken."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", WRITER_LOCK):
        raise WriterLockTaken(
            "Another homeserver process is running on this database. Stop it first."
        )
    reserved: int = await connection.fetchval("SELECT reserved_to FROM stream_reservation")
    return reserved


async def reserve(connection: Connection, up_to: int) -> int:
    """Reserve all positions up to this one; returns it."""
    await connection.execute("UPDATE stream_reservation SET reserved_to = $1", up_to)
    return up_to
