"""Thumbnails: made when somebody asks, kept, at most one maker each.

client-server-api#thumbnails
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from homeserver.errors import MatrixError, NotFound, TooLarge, UnknownError
from homeserver.lru_cache import LruCache
from homeserver.protocol.mxc import Mxc
from homeserver.services.media.content import Content, Stored
from homeserver.services.media.downloads import NO_SUCH_MEDIA, Downloads, Wanted
from homeserver.services.media.fetching import plain
from homeserver.services.media.ground import Ground
from homeserver.services.media.hot import MAX_FILE, HotFiles
from homeserver.services.media.images import CannotThumbnail, TooManyPixels, make_thumbnail
from homeserver.store import media_thumbnails
from homeserver.store.media_bytes import content_name, thumbnail_name
from homeserver.store.media_thumbnails import Box, ThumbnailRow

# "Servers SHOULD produce thumbnails with the following dimensions and methods": 32x32 and 96x96
# crop, 320x240, 640x480 and 800x600 scale. Larger squares are for the larger pictures of users.
SQUARES = (32, 96, 240, 480, 800)
BOXES = ((320, 240), (640, 480), (800, 600))
LARGEST = 65_535
MAKERS = 2
REMEMBERED = 5_000


class Frame(Struct, frozen=True):
    """What a client asks for: `method` is crop or scale."""

    width: int
    height: int
    method: str
    animated: bool


def box_for(frame: Frame) -> Box:
    """The smallest of our sizes that isn't smaller than what is asked for.

    "Servers MUST NOT return a smaller thumbnail than requested, unless the original content makes
    that impossible": beyond the largest size it is the picture as it is.
    """
    sizes: tuple[tuple[int, int], ...] = BOXES
    if frame.method == "crop" and frame.width == frame.height:
        sizes = tuple((side, side) for side in SQUARES)
    for width, height in sizes:
        if frame.width <= width and frame.height <= height:
            return Box(width, height, frame.method, frame.animated)
    return Box(LARGEST, LARGEST, "scale", frame.animated)


class Thumbnails:
    """Gives thumbnails of all media that there are."""

    def __init__(self, ground: Ground, downloads: Downloads, hot: HotFiles) -> None:
        self._ground = ground
        self._downloads = downloads
        self._hot = hot
        self._making: dict[tuple[bytes, Box], asyncio.Task[ThumbnailRow]] = {}
        self._impossible: LruCache[bytes, MatrixError] = LruCache(REMEMBERED)
        self._threads = ThreadPoolExecutor(MAKERS, thread_name_prefix="thumbnail")

    async def open(self, mxc: Mxc, frame: Frame, wanted: Wanted) -> Content:
        """The thumbnail. Raises what Downloads.open raises, UnknownError, TooLarge."""
        box = box_for(frame)
        key = (mxc, str(box))
        content = self._hot.get(key)
        if content is not None and (content.is_public or not wanted.public_only):
            self._downloads.used(mxc)
            return content
        discards = self._hot.discards
        media = await self._downloads.stored(mxc, wanted)
        content = await self._with_bytes(media, box, await self._row(mxc, media, box))
        if content.whole is not None:
            self._hot.put_read(key, content, discards)
        return content

    async def _with_bytes(self, media: Content, box: Box, row: ThumbnailRow) -> Content:
        assert media.sha256 is not None and media.etag is not None
        if row.size is None:
            content = replace(media, content_type=row.content_type, file_name=None)
            name = content_name(media.sha256)
        else:
            name = thumbnail_name(media.sha256, str(box))
            content = replace(
                media,
                content_type=row.content_type,
                file_name=None,
                size=row.size,
                source=Stored(self._ground.media_bytes, name),
                etag=f"{media.etag}-{box}",
                whole=None,
            )
        if content.whole is None and content.size is not None and content.size <= MAX_FILE:
            try:
                whole = await self._ground.media_bytes.read(name, 0, content.size)
            except FileNotFoundError:
                raise NotFound(NO_SUCH_MEDIA) from None
            content = replace(content, whole=whole)
        return content

    async def _row(self, mxc: Mxc, media: Content, box: Box) -> ThumbnailRow:
        """The thumbnail's row, made now if there is none."""
        assert media.sha256 is not None
        known = self._impossible.get(media.sha256)
        if known is not None:
            raise _told(known, mxc, self._ground.is_ours(mxc))
        async with self._ground.database.connection() as connection:
            row = await media_thumbnails.find(connection, media.sha256, box)
        if row is not None:
            return row
        try:
            return await self._made(media, box)
        except (CannotThumbnail, TooManyPixels) as error:
            impossible = _explained(error)
            self._impossible.put(media.sha256, impossible)
            raise _told(impossible, mxc, self._ground.is_ours(mxc)) from None

    async def _made(self, media: Content, box: Box) -> ThumbnailRow:
        """One task makes it for all who wait, and ends its work even if they go."""
        assert media.sha256 is not None
        key = (media.sha256, box)
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(media, box))
            self._making[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: tuple[bytes, Box], task: asyncio.Task[ThumbnailRow]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # somebody waits for it, or nobody does any more

    async def _make(self, media: Content, box: Box) -> ThumbnailRow:
        assert media.sha256 is not None and media.size is not None
        try:
            async with self._ground.media_bytes.as_file(
                content_name(media.sha256), media.size
            ) as path:
                made = await asyncio.get_running_loop().run_in_executor(
                    self._threads, make_thumbnail, path, box, self._ground.config.max_image_pixels
                )
        except FileNotFoundError:
            raise NotFound(NO_SUCH_MEDIA) from None
        size = None if made.data is None else len(made.data)
        row = ThumbnailRow(made.content_type, size)
        name = thumbnail_name(media.sha256, str(box))
        if made.data is not None:
            await self._ground.media_bytes.put(name, made.data)
        try:
            async with self._ground.database.connection() as connection:
                await media_thumbnails.insert(connection, media.sha256, box, row)
        except asyncpg.ForeignKeyViolationError:
            await self._ground.media_bytes.delete([name])  # the content was deleted meanwhile
            raise NotFound(NO_SUCH_MEDIA) from None
        return row

    def close(self) -> None:
        """Take no new work; what is being made is thrown away."""
        for task in self._making.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _explained(error: Exception) -> MatrixError:
    if isinstance(error, TooManyPixels):
        return TooLarge("Content is too large to thumbnail")
    return UnknownError("Cannot generate thumbnails for the requested content")


def _told(error: MatrixError, mxc: Mxc, is_ours: bool) -> MatrixError:
    """413 for our own media, 502 for another server's."""
    told = plain(error)
    if told.errcode == "M_TOO_LARGE" and not is_ours:
        told.status = 502
    return told
