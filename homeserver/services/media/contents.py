"""How an incoming file gets its one place in the store, whoever sent it.

Rules of this file: a content is claimed in the database before its bytes are stored, and marked
stored after; its bytes are only deleted when nobody has it or is about to have it, and when it is
no longer marked stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeserver.services.media.ground import Ground
from homeserver.store import media_files, media_thumbnails
from homeserver.store.media_bytes import Incoming, content_name, thumbnail_name

BATCH = 200


class Contents:
    """All stored contents, each once."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._wanted: Counter[bytes] = Counter()

    @asynccontextmanager
    async def stored(self, incoming: Incoming) -> AsyncIterator[bytes]:
        """Finish an incoming file and keep it; its SHA-256, safe until the block ends.

        In the block the caller says in the database whose it is. Raises StorageFull, Unavailable.
        """
        sha256 = await incoming.finish()
        self._wanted[sha256] += 1
        try:
            await self._keep(incoming, sha256)
            yield sha256
        finally:
            self._wanted[sha256] -= 1
            if not self._wanted[sha256]:
                del self._wanted[sha256]

    async def _keep(self, incoming: Incoming, sha256: bytes) -> None:
        database, now = self._ground.database, self._ground.clock()
        async with database.connection() as connection:
            is_stored = await media_files.claim(connection, sha256, incoming.size, now)
        if not is_stored:
            await self._ground.media_bytes.keep(incoming, sha256)
            async with database.connection() as connection:
                await media_files.mark_stored(connection, sha256)

    async def sweep(self) -> int:
        """Delete all contents that nobody has any more, with their thumbnails; how many."""
        total = 0
        while swept := await self._sweep_some():
            total += swept
        return total

    async def _sweep_some(self) -> int:
        before = self._ground.clock()  # first: who claims one from now on saves it
        wanted = list(self._wanted)
        async with self._ground.database.transaction() as connection:
            files = await media_files.unused(connection, before, wanted, BATCH)
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
