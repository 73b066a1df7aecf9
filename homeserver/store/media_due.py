"""Which media are due to go, and lists of them for admins: only reads the table `media`."""

from __future__ import annotations

from msgspec import Struct

from homeserver.protocol.mxc import Mxc
from homeserver.store.database import Connection
from homeserver.store.media import SELECT_MEDIA, MediaRow


class Page(Struct, frozen=True):
    """Which media are listed; what is None doesn't matter.

    `not_of` is the server whose media are left out (ours: the copies of all others' are listed).
    """

    user_id: str | None = None
    server_name: str | None = None
    not_of: str | None = None
    created_before: int | None = None
    last_used_before: int | None = None
    larger_than: int | None = None
    limit: int = 100
    offset: int = 0


class UserTotal(Struct, frozen=True):
    user_id: str
    count: int
    bytes: int


async def expired(connection: Connection, now: int, limit: int) -> list[Mxc]:
    """Announced uploads that never came."""
    return await _mxcs(
        connection,
        """
        SELECT server_name, media_id FROM media
        WHERE sha256 IS NULL AND expires_at < $1 LIMIT $2
        """,
        now,
        limit,
    )


async def remote_unused(connection: Connection, ours: str, before: int, limit: int) -> list[Mxc]:
    """Copies of other servers' media that nobody asked for since."""
    return await _mxcs(
        connection,
        """
        SELECT m.server_name, m.media_id FROM media m JOIN media_files f USING (sha256)
        WHERE m.server_name <> $1 AND m.last_used_at < $2 AND f.quarantined_by IS NULL
        ORDER BY m.last_used_at LIMIT $3
        """,
        ours,
        before,
        limit,
    )


async def remote_over(connection: Connection, ours: str, size: int, limit: int) -> list[Mxc]:
    """Copies of other servers' media beyond `size` bytes, those used last being kept."""
    return await _mxcs(
        connection,
        """
        SELECT server_name, media_id FROM (
            SELECT m.server_name, m.media_id, m.last_used_at, f.quarantined_by,
                   sum(f.size) OVER (ORDER BY m.last_used_at DESC, m.server_name, m.media_id)
                       AS so_far
            FROM media m JOIN media_files f USING (sha256) WHERE m.server_name <> $1
        ) AS remote
        WHERE so_far > $2 AND quarantined_by IS NULL ORDER BY last_used_at LIMIT $3
        """,
        ours,
        size,
        limit,
    )


async def local_unused(connection: Connection, ours: str, before: int, limit: int) -> list[Mxc]:
    """Our users' uploads that nobody asked for since."""
    return await _mxcs(
        connection,
        """
        SELECT m.server_name, m.media_id FROM media m JOIN media_files f USING (sha256)
        WHERE m.server_name = $1 AND m.last_used_at < $2 AND NOT m.is_preview
          AND f.quarantined_by IS NULL AND NOT f.is_protected
        ORDER BY m.last_used_at LIMIT $3
        """,
        ours,
        before,
        limit,
    )


async def local_old(connection: Connection, ours: str, before: int, limit: int) -> list[Mxc]:
    """Our users' uploads from before a time."""
    return await _mxcs(
        connection,
        """
        SELECT m.server_name, m.media_id FROM media m JOIN media_files f USING (sha256)
        WHERE m.server_name = $1 AND m.created_at < $2 AND NOT m.is_preview
          AND f.quarantined_by IS NULL AND NOT f.is_protected
        LIMIT $3
        """,
        ours,
        before,
        limit,
    )


async def old_previews(connection: Connection, before: int, limit: int) -> list[Mxc]:
    """Pictures of link previews that nobody asked for since."""
    return await _mxcs(
        connection,
        """
        SELECT server_name, media_id FROM media
        WHERE is_preview AND last_used_at < $1 ORDER BY last_used_at LIMIT $2
        """,
        before,
        limit,
    )


async def _mxcs(connection: Connection, query: str, *arguments: object) -> list[Mxc]:
    return [Mxc(**row) for row in await connection.fetch(query, *arguments)]


async def find_all(connection: Connection, page: Page) -> list[MediaRow]:
    """A page of media, the newest first."""
    rows = await connection.fetch(
        SELECT_MEDIA
        + """
        WHERE ($1::text IS NULL OR m.user_id = $1)
          AND ($2::text IS NULL OR m.server_name = $2)
          AND ($3::bigint IS NULL OR m.created_at < $3)
          AND ($4::bigint IS NULL OR m.last_used_at < $4)
          AND ($5::bigint IS NULL OR f.size > $5)
          AND ($6::text IS NULL OR m.server_name <> $6)
        ORDER BY m.created_at DESC, m.media_id LIMIT $7 OFFSET $8
        """,
        page.user_id,
        page.server_name,
        page.created_before,
        page.last_used_before,
        page.larger_than,
        page.not_of,
        page.limit,
        page.offset,
    )
    return [MediaRow(**row) for row in rows]


async def totals(connection: Connection, limit: int, offset: int) -> list[UserTotal]:
    """Who has stored how much, the most first."""
    rows = await connection.fetch(
        """
        SELECT m.user_id, count(*) AS count, sum(f.size)::bigint AS bytes
        FROM media m JOIN media_files f USING (sha256) WHERE m.user_id IS NOT NULL
        GROUP BY m.user_id ORDER BY bytes DESC, m.user_id LIMIT $1 OFFSET $2
        """,
        limit,
        offset,
    )
    return [UserTotal(**row) for row in rows]


async def contents_of(connection: Connection, mxcs: list[Mxc]) -> list[bytes]:
    """The contents of these media, each once."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT m.sha256
        FROM media m JOIN unnest($1::text[], $2::text[]) AS n (server_name, media_id)
          USING (server_name, media_id)
        WHERE m.sha256 IS NOT NULL
        """,
        [mxc.server_name for mxc in mxcs],
        [mxc.media_id for mxc in mxcs],
    )
    return [row["sha256"] for row in rows]
