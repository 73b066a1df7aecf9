"""Which media go, and when: by age, last use, size together; at an admin's word.

Rules of this file: deleting media only forgets them; their bytes go with the next sweep if nobody
else has the same content. Whatever deletes or quarantines empties the memory of hot files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from homeserver.protocol.mxc import Mxc
from homeserver.services.media.contents import Contents
from homeserver.services.media.ground import Ground
from homeserver.services.media.hot import HotFiles
from homeserver.store import media, media_due, media_files, media_links
from homeserver.store.database import Connection
from homeserver.store.media import MediaRow
from homeserver.store.media_due import Page, UserTotal

PERIOD_SECONDS = 600.0
BATCH = 500
DAY_MS = 86_400_000
PREVIEW_DAYS = 30

log = structlog.get_logger()

Due = Callable[[Connection], Awaitable[list[Mxc]]]


class Retention:
    """Deletes what is due, and what it is told to."""

    def __init__(self, ground: Ground, contents: Contents, hot: HotFiles) -> None:
        self._ground = ground
        self._contents = contents
        self._hot = hot

    async def run(self) -> None:
        """Clear from time to time, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.clear()
            except Exception as error:
                log.warning("clearing media failed", exc_info=error)

    async def clear(self) -> int:
        """Delete all that is due, then the contents that nobody has any more; how many media."""
        deleted = 0
        for due in self._due():
            while True:
                async with self._ground.database.transaction() as connection:
                    mxcs = await due(connection)
                    await media.delete(connection, mxcs)
                deleted += len(mxcs)
                if len(mxcs) < BATCH:
                    break
        if deleted:
            self._hot.clear()
            log.info("old media deleted", count=deleted)
        await self._contents.sweep()
        return deleted

    def _due(self) -> list[Due]:
        now = self._ground.clock()
        ours, config = self._ground.server_name, self._ground.config
        old_preview = _before(now, PREVIEW_DAYS)
        due: list[Due] = [
            lambda c: media_due.expired(c, now, BATCH),
            lambda c: media_due.old_previews(c, old_preview, BATCH),
        ]
        for days, query in (
            (config.remote_unused_days, media_due.remote_unused),
            (config.local_unused_days, media_due.local_unused),
            (config.local_lifetime_days, media_due.local_old),
        ):
            if days is not None:
                due.append(partial(query, ours=ours, before=_before(now, days), limit=BATCH))
        if config.remote_cache_size is not None:
            size = config.remote_cache_size
            due.append(lambda c: media_due.remote_over(c, ours, size, BATCH))
        return due

    async def delete(self, mxcs: Iterable[Mxc]) -> list[Mxc]:
        """Delete media now, bytes included where nobody else has them; which ones there were."""
        async with self._ground.database.transaction() as connection:
            deleted = await media.delete(connection, mxcs)
        self._hot.clear()
        await self._contents.sweep()
        return deleted

    async def find(self, mxc: Mxc) -> MediaRow | None:
        """What is known of a piece of media, for admins."""
        async with self._ground.database.connection() as connection:
            return await media.find(connection, mxc)

    async def find_all(self, page: Page) -> list[MediaRow]:
        """A page of all media, the newest first, for admins."""
        async with self._ground.database.connection() as connection:
            return await media_due.find_all(connection, page)

    async def of_room(self, room_id: str) -> list[Mxc]:
        """The media that a room's unencrypted events carry, for admins."""
        async with self._ground.database.connection() as connection:
            return await media_links.of_room(connection, room_id)

    async def totals(self, limit: int, offset: int) -> list[UserTotal]:
        """Who has stored how much, the most first, for admins."""
        async with self._ground.database.connection() as connection:
            return await media_due.totals(connection, limit, offset)

    async def quarantine(self, mxcs: Iterable[Mxc], admin: str | None) -> int:
        """Nobody gets these contents any more, under no id; None: they do again. How many."""
        async with self._ground.database.transaction() as connection:
            files = await media_due.contents_of(connection, list(mxcs))
            count = await media_files.quarantine(connection, files, admin)
        self._hot.clear()
        return count

    async def protect(self, mxc: Mxc, is_protected: bool) -> None:
        """A protected content is never quarantined."""
        async with self._ground.database.transaction() as connection:
            for sha256 in await media_due.contents_of(connection, [mxc]):
                await media_files.protect(connection, sha256, is_protected)


def _before(now: int, days: float) -> int:
    return now - int(days * DAY_MS)
