"""From a content URI to something that can be served, ours or another server's.

client-server-api#get_matrixclientv1mediadownloadservernamemediaid
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec import Struct
from msgspec.structs import replace

from homeserver.errors import NotFound, NotYetUploaded, Unavailable
from homeserver.protocol.mxc import Mxc
from homeserver.services.media.arrivals import Arrivals
from homeserver.services.media.content import DEFAULT_TYPE, Content, Stored
from homeserver.services.media.fetching import Fetching
from homeserver.services.media.ground import Ground
from homeserver.services.media.hot import MAX_FILE, HotFiles
from homeserver.store import media
from homeserver.store.media import MediaRow
from homeserver.store.media_bytes import content_name

PERIOD_SECONDS = 60.0
NO_SUCH_MEDIA = "There is no such media"

log = structlog.get_logger()


class Wanted(Struct, frozen=True):
    """How media is asked for. `timeout_ms`: so long the caller waits for its upload.

    `local_only`: don't ask other servers. `public_only`: the caller is nobody, who may only have
    what is public.
    """

    timeout_ms: int = 20_000
    local_only: bool = False
    public_only: bool = False


class Downloads:
    """Finds media, fetches what is missing, remembers what was used."""

    def __init__(
        self, ground: Ground, fetching: Fetching, arrivals: Arrivals, hot: HotFiles
    ) -> None:
        self._ground = ground
        self._fetching = fetching
        self._arrivals = arrivals
        self._hot = hot
        self._public = frozenset(ground.config.public)
        self._used: dict[Mxc, int] = {}

    async def open(self, mxc: Mxc, wanted: Wanted) -> Content:
        """What to serve for `mxc`.

        Raises NotFound, NotYetUploaded, TooLarge, BadGateway, Unavailable.
        """
        content = self._hot.get((mxc, ""))
        if content is None:
            content = await self._find(mxc, wanted)
        return self._checked(mxc, content, wanted)

    async def stored(self, mxc: Mxc, wanted: Wanted) -> Content:
        """The same, but wholly in the store: a remote file is waited for. Has a `sha256`."""
        content = self._hot.get((mxc, ""))
        if content is None or content.sha256 is None:
            row = await self._row(mxc, wanted)
            if row is None:
                await self._fetching.fetch(mxc, wanted.timeout_ms, complete=True)
                row = await self._row(mxc, wanted)
            content = self._stored(row)
        return self._checked(mxc, content, wanted)

    def used(self, mxc: Mxc) -> None:
        """Somebody got it just now."""
        self._used[mxc] = self._ground.clock()

    def _checked(self, mxc: Mxc, content: Content, wanted: Wanted) -> Content:
        if wanted.public_only and not (content.is_public or str(mxc) in self._public):
            raise NotFound(NO_SUCH_MEDIA)
        self.used(mxc)
        return content

    async def _find(self, mxc: Mxc, wanted: Wanted) -> Content:
        discards = self._hot.discards
        row = await self._row(mxc, wanted)
        if row is None:
            fetch = await self._fetching.fetch(mxc, wanted.timeout_ms, complete=False)
            row = await self._row(mxc, wanted)
            if row is None:
                return fetch.content()
        content = self._stored(row)
        if content.size is not None and content.size <= MAX_FILE:
            content = replace(content, whole=await self._whole(row))
            self._hot.put_read((mxc, ""), content, discards)
        return content

    async def _row(self, mxc: Mxc, wanted: Wanted) -> MediaRow | None:
        """What we have of it; None: ask the other server. Raises NotFound, NotYetUploaded."""
        async with self._ground.database.connection() as connection:
            row = await media.find(connection, mxc)
        if row is None:
            if self._ground.is_ours(mxc) or wanted.local_only or wanted.public_only:
                raise NotFound(NO_SUCH_MEDIA)
            return None
        if row.quarantined_by is not None:
            raise NotFound(NO_SUCH_MEDIA)
        if row.sha256 is None:
            row = await self._arrival(mxc, wanted)
        return row

    async def _arrival(self, mxc: Mxc, wanted: Wanted) -> MediaRow:
        """The row when the announced upload is made."""
        arrived = self._arrivals.watch(mxc)
        try:
            async with asyncio.timeout(wanted.timeout_ms / 1000):
                while True:
                    arrived.clear()
                    async with self._ground.database.connection() as connection:
                        row = await media.find(connection, mxc)
                    if (
                        row is None
                        or (row.expires_at or self._ground.clock()) < self._ground.clock()
                    ):
                        raise NotFound(NO_SUCH_MEDIA)
                    if row.sha256 is not None:
                        return row
                    await arrived.wait()
        except TimeoutError:
            raise NotYetUploaded("The content has not been uploaded yet") from None
        finally:
            self._arrivals.unwatch(mxc, arrived)

    def _stored(self, row: MediaRow | None) -> Content:
        if row is None or row.sha256 is None:
            raise NotFound(NO_SUCH_MEDIA)
        return Content(
            content_type=row.content_type or DEFAULT_TYPE,
            file_name=row.file_name,
            size=row.size,
            source=Stored(self._ground.media_bytes, content_name(row.sha256)),
            etag=row.sha256.hex()[:32],
            sha256=row.sha256,
            is_public=row.is_public,
        )

    async def _whole(self, row: MediaRow) -> bytes:
        assert row.sha256 is not None and row.size is not None
        try:
            return await self._ground.media_bytes.read(content_name(row.sha256), 0, row.size)
        except FileNotFoundError:
            log.error("a stored file is missing", mxc=str(row.mxc), file=row.sha256.hex())
            raise NotFound(NO_SUCH_MEDIA) from None

    async def flush(self) -> None:
        """Write what was used when. If the database is away it stays for the next time."""
        times = self._used
        if not times:
            return
        self._used = {}
        try:
            async with self._ground.database.connection() as connection:
                await media.used(connection, times)
        except Unavailable:
            self._used = {**times, **self._used}

    async def run(self) -> None:
        """Flush from time to time, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.flush()
