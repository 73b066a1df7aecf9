"""Pieces of media by their content URI: the table `media`.

client-server-api#content-repository
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from homeserver.protocol.mxc import Mxc
from homeserver.store.database import Connection


class MediaRow(Struct, frozen=True):
    """One piece of media. Without `sha256` it is created and not uploaded yet."""

    server_name: str
    media_id: str
    sha256: bytes | None
    size: int | None
    content_type: str | None
    file_name: str | None
    user_id: str | None
    created_at: int
    last_used_at: int
    expires_at: int | None
    is_public: bool
    quarantined_by: str | None
    is_protected: bool

    @property
    def mxc(self) -> Mxc:
        return Mxc(self.server_name, self.media_id)


class NewMedia(Struct, frozen=True):
    """What is stored of an upload or a fetched file."""

    mxc: Mxc
    sha256: bytes
    content_type: str | None
    file_name: str | None
    user_id: str | None = None
    is_public: bool = False
    is_preview: bool = False


SELECT_MEDIA = """
    SELECT m.server_name, m.media_id, m.sha256, f.size, m.content_type, m.file_name, m.user_id,
           m.created_at, m.last_used_at, m.expires_at, m.is_public, f.quarantined_by,
           COALESCE(f.is_protected, false) AS is_protected
    FROM media m LEFT JOIN media_files f USING (sha256)
"""


async def find(connection: Connection, mxc: Mxc) -> MediaRow | None:
    row = await connection.fetchrow(
        SELECT_MEDIA + " WHERE m.server_name = $1 AND m.media_id = $2",
        mxc.server_name,
        mxc.media_id,
    )
    return MediaRow(**row) if row is not None else None


async def insert(connection: Connection, new: NewMedia, now: int) -> bool:
    """Store an upload, or a fetched file (again). Always True."""
    await connection.execute(
        """
        INSERT INTO media (server_name, media_id, sha256, content_type, file_name, user_id,
                           created_at, last_used_at, is_public, is_preview)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)
        ON CONFLICT (server_name, media_id) DO UPDATE
        SET sha256 = $3, content_type = $4, file_name = $5, created_at = $7, last_used_at = $7
        """,
        new.mxc.server_name,
        new.mxc.media_id,
        new.sha256,
        new.content_type,
        new.file_name,
        new.user_id,
        now,
        new.is_public,
        new.is_preview,
    )
    return True


async def reserve(
    connection: Connection, mxc: Mxc, user_id: str, now: int, expires_at: int
) -> None:
    """Create an id whose content comes later."""
    await connection.execute(
        """
        INSERT INTO media (server_name, media_id, user_id, created_at, last_used_at, expires_at)
        VALUES ($1, $2, $3, $4, $4, $5)
        """,
        mxc.server_name,
        mxc.media_id,
        user_id,
        now,
        expires_at,
    )


async def complete(connection: Connection, new: NewMedia, now: int) -> bool:
    """Give a created id its content. False: it has got one meanwhile, or is gone."""
    status = await connection.execute(
        """
        UPDATE media SET sha256 = $3, content_type = $4, file_name = $5, is_public = $6,
                         created_at = $7, last_used_at = $7, expires_at = NULL
        WHERE server_name = $1 AND media_id = $2 AND sha256 IS NULL
        """,
        new.mxc.server_name,
        new.mxc.media_id,
        new.sha256,
        new.content_type,
        new.file_name,
        new.is_public,
        now,
    )
    return status.endswith(" 1")


async def pending_uploads(connection: Connection, user_id: str, now: int) -> list[int]:
    """When each of the user's created ids without content expires, the first first."""
    rows = await connection.fetch(
        """
        SELECT expires_at FROM media
        WHERE user_id = $1 AND sha256 IS NULL AND expires_at > $2 ORDER BY expires_at
        """,
        user_id,
        now,
    )
    return [row["expires_at"] for row in rows]


async def lock_user(connection: Connection, user_id: str) -> None:
    """Let one transaction after another look at, and add to, what the user has stored."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('media of ' || $1, 0))", user_id
    )


async def stored_bytes(connection: Connection, user_id: str) -> int:
    """How much the user has uploaded; the same content twice counts twice."""
    total: int = await connection.fetchval(
        """
        SELECT COALESCE(sum(f.size), 0)::bigint
        FROM media m JOIN media_files f USING (sha256) WHERE m.user_id = $1
        """,
        user_id,
    )
    return total


async def used(connection: Connection, times: dict[Mxc, int]) -> None:
    """Remember when media were downloaded."""
    await connection.execute(
        """
        UPDATE media m SET last_used_at = u.used_at
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (server_name, media_id, used_at)
        WHERE m.server_name = u.server_name AND m.media_id = u.media_id
        """,
        [mxc.server_name for mxc in times],
        [mxc.media_id for mxc in times],
        list(times.values()),
    )


async def delete(connection: Connection, mxcs: Iterable[Mxc]) -> list[Mxc]:
    """Forget media; the ones that there were. Their contents are swept up when nobody has them."""
    names = list(mxcs)
    rows = await connection.fetch(
        """
        DELETE FROM media m USING unnest($1::text[], $2::text[]) AS d (server_name, media_id)
        WHERE m.server_name = d.server_name AND m.media_id = d.media_id
        RETURNING m.server_name, m.media_id
        """,
        [mxc.server_name for mxc in names],
        [mxc.media_id for mxc in names],
    )
    return [Mxc(**row) for row in rows]
