"""The thumbnails that were made of stored contents: the table `media_thumbnails`."""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection


class Box(Struct, frozen=True):
    """What a thumbnail is made for: a box of pixels and how the picture fills it."""

    width: int
    height: int
    method: str
    animated: bool

    def __str__(self) -> str:
        return f"{self.width}x{self.height}-{self.method}{'-animated' * self.animated}"


class ThumbnailRow(Struct, frozen=True):
    """A made thumbnail. Without `size` the content itself is served as its own thumbnail."""

    content_type: str
    size: int | None


async def find(connection: Connection, sha256: bytes, box: Box) -> ThumbnailRow | None:
    row = await connection.fetchrow(
        """
        SELECT content_type, size FROM media_thumbnails
        WHERE sha256 = $1 AND width = $2 AND height = $3 AND method = $4 AND animated = $5
        """,
        sha256,
        box.width,
        box.height,
        box.method,
        box.animated,
    )
    return ThumbnailRow(**row) if row is not None else None


async def insert(connection: Connection, sha256: bytes, box: Box, made: ThumbnailRow) -> None:
    await connection.execute(
        """
        INSERT INTO media_thumbnails (sha256, width, height, method, animated, content_type, size)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
        """,
        sha256,
        box.width,
        box.height,
        box.method,
        box.animated,
        made.content_type,
        made.size,
    )


async def boxes(connection: Connection, files: list[bytes]) -> list[tuple[bytes, Box]]:
    """The stored thumbnails of these contents."""
    rows = await connection.fetch(
        """
        SELECT sha256, width, height, method, animated FROM media_thumbnails
        WHERE sha256 = ANY($1) AND size IS NOT NULL
        """,
        files,
    )
    return [(sha256, Box(*box)) for sha256, *box in rows]


async def delete(connection: Connection, files: list[bytes]) -> None:
    """Forget the thumbnails of contents that are deleted."""
    await connection.execute("DELETE FROM media_thumbnails WHERE sha256 = ANY($1)", files)
