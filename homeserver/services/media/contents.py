"""How an incoming file gets its one place in the store, whoever sent it.

Rules of this file: a content is claimed in the database before its bytes are stored, and marked
stored after; its bytes are only deleted when it is unclaimed, unused, and marked not stored.
"""

from __future__ import annotations

from homeserver.services.media.ground import Ground
from homeserver.store import media_files, media_thumbnails
from homeserver.store.media_bytes import Incoming, content_name, thumbnail_name

YOUNG_MS = 3_600_000


class Contents:
    """All stored contents, each once."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def store(self, incoming: Incoming) -> bytes:
        """Finish an incoming file and keep it; its SHA-256. Raises StorageFull, Unavailable."""
        sha256 = await incoming.finish()
        async with self._ground.database.connection() as connection:
            is_stored = await media_files.claim(
                connection, sha256, incoming.size, self._ground.clock()
            )
        if not is_stored:
            await self._ground.media_bytes.keep(incoming, sha256)
            async with self._ground.database.connection() as connection:
                await media_files.mark_stored(connection, sha256)
        return sha256

    async def sweep_all(self) -> int:
        """Delete all contents that nobody has any more; how many."""
        total = 0
        while swept := await self.sweep():
            total += swept
        return total

    async def sweep(self, limit: int = 200, young_ms: int = YOUNG_MS) -> int:
        """Delete contents that nobody has any more, with their thumbnails; how many."""
        before = self._ground.clock() - young_ms
        async with self._ground.database.transaction() as connection:
            files = await media_files.unused(connection, before, limit)
            await media_files.unmark_stored(connection, files)
        if not files:
            return 0
        async with self._ground.database.transaction() as connection:
            # Between the two somebody may have uploaded one of them again.
            files = await media_files.still_unused(connection, files, before)
            boxes = await media_thumbnails.boxes(connection, files)
            names = [content_name(sha256) for sha256 in files]
            names += [thumbnail_name(sha256, str(box)) for sha256, box in boxes]
            await self._ground.media_bytes.delete(names)
            await media_thumbnails.delete(connection, files)
            await media_files.delete(connection, files)
        return len(files)
