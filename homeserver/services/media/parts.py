"""The content repository's parts, built and joined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from homeserver import background
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.remote.media_file import FetchMedia
from homeserver.services.media.contents import Contents
from homeserver.services.media.downloads import Downloads
from homeserver.services.media.fetching import Fetching
from homeserver.services.media.ground import Ground
from homeserver.services.media.hot import hot_files
from homeserver.services.media.links import Links
from homeserver.services.media.pictures import Pictures
from homeserver.services.media.retention import Retention
from homeserver.services.media.thumbnails import Thumbnails
from homeserver.services.media.uploads import Uploads
from homeserver.store.database import Database
from homeserver.store.media_bytes import MediaBytes


class MediaParts(Struct, frozen=True):
    """What the doors use of the content repository."""

    uploads: Uploads
    downloads: Downloads
    thumbnails: Thumbnails
    retention: Retention
    pictures: Pictures


@asynccontextmanager
async def media_parts(
    config: Config,
    database: Database,
    fetch_media: FetchMedia | None,
    newest: Callable[[], int],
    clock: Clock,
) -> AsyncIterator[MediaParts]:
    """The content repository at work; it ends with the block.

    `newest` gives the stream's newest visible position.
    """
    options = config.media
    media_bytes = MediaBytes(config.data_dir / "media", options.store, options.store_options)
    await asyncio.to_thread(media_bytes.prepare)
    ground = Ground(database, media_bytes, options, config.server_name, clock)
    hot = hot_files(options.memory_cache)
    contents = Contents(ground)
    uploads = Uploads(ground, contents)
    fetching = Fetching(ground, contents, fetch_media)
    downloads = Downloads(ground, fetching, uploads.arrivals, hot)
    thumbnails = Thumbnails(ground, downloads, hot)
    retention = Retention(ground, contents, hot)
    links = Links(ground, contents, hot, newest)
    tasks = [background.start(work) for work in (downloads.run, retention.run, links.run)]
    try:
        yield MediaParts(uploads, downloads, thumbnails, retention, Pictures(ground, uploads))
    finally:
        for task in tasks:
            await background.end(task)
        await fetching.close()
        thumbnails.close()
        await downloads.flush()
