"""Fetches pages, puts previews together, remembers them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import structlog
from yarl import URL

from homeserver.clock import Clock
from homeserver.config import Previews as PreviewsConfig
from homeserver.errors import BadGateway, Forbidden, InvalidParam, Unavailable, Unrecognized
from homeserver.lru_cache import LruCache
from homeserver.remote.web import Fetched, NotFetched, Web
from homeserver.services.previews.hosts import MAX_URL, parse_url
from homeserver.services.previews.page import Page, add_oembed, read_page
from homeserver.store import url_previews
from homeserver.store.database import Database

AT_ONCE = 10
REMEMBERED = 5_000
FAILED_MS = 60_000
MAX_OEMBED = 262_144
PERIOD_SECONDS = 3600.0
HTML_TYPES = {"text/html", "application/xhtml+xml"}
CANNOT_FETCH = "The page can't be fetched"

log = structlog.get_logger()


class Picture(Protocol):
    """A picture that was stored for a preview; sizes in pixels and bytes."""

    @property
    def uri(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def size(self) -> int: ...


KeepPicture = Callable[[bytes], Awaitable[Picture | None]]
"""Stores a picture as media; None if it isn't one."""


class Previews:
    """Gives previews. Each URL is fetched by one task for all who ask for it."""

    def __init__(
        self,
        database: Database,
        web: Web,
        keep_picture: KeepPicture,
        config: PreviewsConfig,
        clock: Clock,
    ) -> None:
        self._database = database
        self._web = web
        self._keep_picture = keep_picture
        self._config = config
        self._clock = clock
        self._fetching: dict[str, asyncio.Task[bytes]] = {}
        self._failed: LruCache[str, int] = LruCache(REMEMBERED)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def get(self, text: str) -> bytes:
        """The preview of a URL, as JSON.

        Raises Unrecognized (switched off), InvalidParam, Forbidden (by the config), BadGateway.
        """
        if not self._config.enabled:
            raise Unrecognized("This server makes no previews of links")
        url = parse_url(text) if len(text) <= MAX_URL else None
        if url is None or url.scheme not in {"http", "https"} or not url.host:
            raise InvalidParam("This is not the address of a web page")
        if not self._web.allows(url):
            raise Forbidden("This server makes no previews of this address")
        name = str(url)
        async with self._database.connection() as connection:
            known = await url_previews.find(connection, name, self._clock())
        if known is not None:
            return known
        if (self._failed.get(name) or 0) > self._clock():
            raise BadGateway(CANNOT_FETCH)
        return await asyncio.shield(self._fetching.get(name) or self._start(name, url))

    def _start(self, name: str, url: URL) -> asyncio.Task[bytes]:
        task = asyncio.create_task(self._fetch(name, url))
        self._fetching[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: str, task: asyncio.Task[bytes]) -> None:
        del self._fetching[name]
        if not task.cancelled():
            task.exception()  # who asked may be gone

    async def _fetch(self, name: str, url: URL) -> bytes:
        try:
            async with self._places:
                answer = msgspec.json.encode(await self._preview(url))
        except (NotFetched, TimeoutError) as error:
            # Why isn't told: nobody learns from here what there is in our network.
            log.debug("no preview", url=name, error=str(error))
            self._failed.put(name, self._clock() + FAILED_MS)
            raise BadGateway(CANNOT_FETCH) from None
        now = self._clock()
        async with self._database.connection() as connection:
            until = now + self._config.lifetime * 1000
            await url_previews.put(connection, name, answer, now, until)
        return answer

    async def _preview(self, url: URL) -> dict[str, Any]:
        fetched = await self._get(url, self._config.max_page_size, "text/html,*/*;q=0.8")
        if fetched.content_type.startswith("image/"):
            picture = await self._picture_at(url)
            return _with_picture({}, picture)
        if fetched.content_type not in HTML_TYPES:
            return {}
        page = await asyncio.to_thread(read_page, fetched.body, fetched.charset, fetched.url)
        await self._ask_oembed(page)
        picture = await self._picture_at(page.image) if page.image is not None else None
        return _with_picture(page.properties, picture)

    async def _ask_oembed(self, page: Page) -> None:
        if page.oembed is None:
            return
        try:
            fetched = await self._get(page.oembed, MAX_OEMBED, "application/json")
        except (NotFetched, TimeoutError):
            return
        await asyncio.to_thread(add_oembed, page, fetched.body, fetched.url)

    async def _picture_at(self, url: URL) -> Picture | None:
        try:
            fetched = await self._get(url, self._config.max_image_size, "image/*")
            return await self._keep_picture(fetched.body) if fetched.is_whole else None
        except (NotFetched, TimeoutError, Unavailable):
            return None

    async def _get(self, url: URL, max_bytes: int, accept: str) -> Fetched:
        headers = {"Accept": accept, "Accept-Language": self._config.accept_language}
        async with asyncio.timeout(self._config.seconds):
            return await self._web.get(url, max_bytes, headers)

    async def run(self) -> None:
        """Forget old previews from time to time, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                async with self._database.connection() as connection:
                    await url_previews.delete_expired(connection, self._clock())
            except Unavailable:
                log.warning("could not forget old previews")

    def close(self) -> None:
        """End what is being fetched."""
        for task in self._fetching.values():
            task.cancel()


def _with_picture(properties: dict[str, str], picture: Picture | None) -> dict[str, Any]:
    """Some values of OpenGraph are replaced with Matrix equivalents."""
    if picture is None:
        return dict(properties)
    return {
        **properties,
        "og:image": picture.uri,
        "og:image:type": picture.content_type,
        "og:image:width": picture.width,
        "og:image:height": picture.height,
        "matrix:image:size": picture.size,
    }
