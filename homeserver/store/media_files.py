"""The stored contents, one row per SHA-256: the table `media_files`.

A file is claimed before its bytes are stored and marked stored after, so that whatever a crash
leaves behind is known here and swept up.
"""

from __future__ import annotations

from homeserver.store.database import Connection


async def claim(connection: Connection, sha256: bytes, size: int, now: int) -> bool:
    """Note that somebody has this content; are its bytes in the store already?"""
    stored: bool = await connection.fetchval(
        """
        INSERT INTO media_files (sha256, size, claimed_at) VALUES ($1, $2, $3)
        ON CONFLICT (sha256) DO UPDATE SET claimed_at = $3
        RETURNING is_stored
        """,
        sha256,
        size,
        now,
    )
    return stored


async def mark_stored(connection: Connection, sha256: bytes) -> None:
    await connection.execute("UPDATE media_files SET is_stored = true WHERE sha256 = $1", sha256)


async def size(connection: Connection, sha256: bytes) -> int:
    found: int | None = await connection.fetchval(
        "SELECT size FROM media_files WHERE sha256 = $1", sha256
    )
    return found or 0


async def unused(
    connection: Connection, claimed_before: int, wanted: list[bytes], limit: int
) -> list[bytes]:
    """Contents that nobody has any more, and that aren't among `wanted`."""
    rows = await connection.fetch(
        """
        SELECT f.sha256 FROM media_files f
        WHERE f.claimed_at < $1 AND f.sha256 <> ALL($2)
          AND (f.is_stored OR f.quarantined_by IS NULL)
          AND NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = f.sha256)
        LIMIT $3 FOR UPDATE SKIP LOCKED
        """,
        claimed_before,
        wanted,
        limit,
    )
    return [row["sha256"] for row in rows]


async def unmark_stored(connection: Connection, files: list[bytes]) -> None:
    """Their bytes are about to be deleted: the next upload stores them anew."""
    await connection.execute(
        "UPDATE media_files SET is_stored = false WHERE sha256 = ANY($1)", files
    )


async def still_unused(
    connection: Connection, files: list[bytes], claimed_before: int
) -> list[bytes]:
    """Those of `files` that are unmarked and nobody's, locked until the transaction ends."""
    rows = await connection.fetch(
        """
        SELECT f.sha256 FROM media_files f
        WHERE f.sha256 = ANY($1) AND f.claimed_at < $2 AND NOT f.is_stored
          AND NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = f.sha256)
        FOR UPDATE
        """,
        files,
        claimed_before,
    )
    return [row["sha256"] for row in rows]


async def delete(connection: Connection, files: list[bytes]) -> None:
    """Forget contents whose bytes are deleted; of a quarantined one the row stays."""
    await connection.execute(
        "DELETE FROM media_files WHERE sha256 = ANY($1) AND quarantined_by IS NULL", files
    )


async def quarantine(connection: Connection, files: list[bytes], admin: str | None) -> int:
    """Take contents away from everybody, or give them back (None); how many it concerned."""
    status = await connection.execute(
        """
        UPDATE media_files SET quarantined_by = $2
        WHERE sha256 = ANY($1) AND NOT (is_protected AND $2::text IS NOT NULL)
        """,
        files,
        admin,
    )
    return int(status.rpartition(" ")[2])


async def protect(connection: Connection, sha256: bytes, is_protected: bool) -> None:
    """A protected content is never quarantined."""
    await connection.execute(
        "UPDATE media_files SET is_protected = $2 WHERE sha256 = $1", sha256, is_protected
    )
