"""Fetching from other servers: once for many waiters, readable while it grows.

Rules of this file: a fetch goes on when the client that caused it is gone; a failed one is
remembered for a while, so that nobody makes us ask a dead server again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from weakref import WeakValueDictionary

import structlog

from homeserver.errors import BadGateway, MatrixError, NotFound, NotYetUploaded, TooLarge
from homeserver.lru_cache import LruCache
from homeserver.protocol.mxc import Mxc
from homeserver.remote.media_file import FetchMedia, RemoteFile
from homeserver.services.media.content import DEFAULT_TYPE, Content, Stored
from homeserver.services.media.contents import Contents
from homeserver.services.media.ground import Ground
from homeserver.store import media
from homeserver.store.media import NewMedia
from homeserver.store.media_bytes import Incoming, content_name

AT_ONCE = 24
AT_ONCE_OF_A_SERVER = 4
SERVE_FROM = 262_144
"""A growing file is served from so many bytes on; a smaller one when it is complete."""
REMEMBERED = 5_000
NOT_FOUND_MS = 300_000
FAILED_MS = 60_000
MAX_TEXT = 1000

log = structlog.get_logger()


class Fetch:
    """One file on its way. `ready` is set when it can be served, or has failed."""

    def __init__(self, mxc: Mxc) -> None:
        self.mxc = mxc
        self.ready = asyncio.Event()
        self.error: MatrixError | None = None
        self.task: asyncio.Task[None] | None = None
        self._remote: RemoteFile | None = None
        self._incoming: Incoming | None = None
        self._stored: Stored | None = None
        self._size = 0
        self._reading = asyncio.Lock()
        self._grown = asyncio.Event()

    def begin(self, remote: RemoteFile, incoming: Incoming) -> None:
        self._remote = remote
        self._incoming = incoming

    def grew(self) -> None:
        """More of it is on disk: wake who waits for it."""
        assert self._incoming is not None
        if self._incoming.size >= SERVE_FROM:
            self.ready.set()
        self._wake()

    async def complete(self, stored: Stored, size: int) -> None:
        """All of it is in the store: from now on it is read there."""
        self._stored, self._size = stored, size
        await self.no_longer_read()
        self.ready.set()
        self._wake()

    def fail(self, error: MatrixError) -> None:
        self.error = error
        self.ready.set()
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    @property
    def is_over(self) -> bool:
        """Has it failed, or come to its end?"""
        return self.error is not None or self._stored is not None

    async def no_longer_read(self) -> None:
        """Wait for reads of the incoming file, and let nobody read it after."""
        async with self._reading:
            self._incoming = None

    def content(self) -> Content:
        """The file while it grows."""
        assert self._remote is not None
        return Content(
            content_type=self._remote.content_type or DEFAULT_TYPE,
            file_name=self._remote.file_name,
            size=self._remote.length,
            source=self,
        )

    async def slices(self, start: int, end: int | None) -> AsyncIterator[bytes]:
        """Raises the error of a fetch that fails on the way."""
        while end is None or start < end:
            grown = self._grown
            piece = await self._read(start, end)
            if piece:
                start += len(piece)
                yield piece
            elif self._stored is not None:
                async for piece in self._stored.slices(start, self._size if end is None else end):
                    yield piece
                return
            elif self.error is not None:
                raise plain(self.error)
            else:
                await grown.wait()

    async def _read(self, start: int, end: int | None) -> bytes:
        async with self._reading:
            if self._incoming is None:
                return b""
            until = min(self._incoming.size, start + SERVE_FROM)
            until = until if end is None else min(until, end)
            return await self._incoming.read(start, until - start) if start < until else b""


class Fetching:
    """All files on their way from other servers."""

    def __init__(self, ground: Ground, contents: Contents, fetch_media: FetchMedia | None) -> None:
        self._ground = ground
        self._contents = contents
        self._fetch_media = fetch_media
        self._on_the_way: dict[Mxc, Fetch] = {}
        self._failed: LruCache[Mxc, tuple[int, MatrixError]] = LruCache(REMEMBERED)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._server_places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def fetch(self, mxc: Mxc, timeout_ms: int, *, complete: bool) -> Fetch:
        """The file, `ready` to be served or (`complete`) in the store and the database.

        Raises NotFound, NotYetUploaded, TooLarge, BadGateway.
        """
        fetch = self._on_the_way.get(mxc) or self._start(mxc, timeout_ms)
        seconds = timeout_ms / 1000 + (self._ground.config.fetch_seconds if complete else 20)
        try:
            async with asyncio.timeout(seconds):
                await fetch.ready.wait()
                if complete and fetch.task is not None:
                    await asyncio.wait([fetch.task])
        except TimeoutError:
            raise NotYetUploaded(f"{mxc.server_name} is slow; try again later") from None
        if fetch.error is not None:
            raise plain(fetch.error)
        return fetch

    def _start(self, mxc: Mxc, timeout_ms: int) -> Fetch:
        if self._fetch_media is None:
            raise NotFound("This server does not fetch media of other servers")
        failed = self._failed.get(mxc)
        if failed is not None and failed[0] > self._ground.clock():
            raise plain(failed[1])
        fetch = Fetch(mxc)
        fetch.task = asyncio.create_task(self._run(fetch, self._fetch_media, timeout_ms))
        self._on_the_way[mxc] = fetch
        return fetch

    async def _run(self, fetch: Fetch, fetch_media: FetchMedia, timeout_ms: int) -> None:
        """The fetch's task: always ends with the fetch complete or failed."""
        seconds = self._ground.config.fetch_seconds + timeout_ms / 1000
        try:
            async with (
                self._place(fetch.mxc),
                self._places,
                asyncio.timeout(seconds),
                fetch_media(fetch.mxc, timeout_ms) as remote,
            ):
                await self._receive(fetch, remote)
        except MatrixError as error:
            self._remember(fetch, error)
        except TimeoutError:
            self._remember(fetch, BadGateway(f"{fetch.mxc.server_name} is too slow"))
        except Exception as error:
            log.error("fetching media failed", mxc=str(fetch.mxc), exc_info=error)
            self._remember(fetch, BadGateway(f"Fetching {fetch.mxc} failed"))
        finally:
            if not fetch.is_over:  # cancelled
                fetch.fail(BadGateway("The server is ending"))
            del self._on_the_way[fetch.mxc]

    def _place(self, mxc: Mxc) -> asyncio.Semaphore:
        """One server's slow files leave room for the other servers'."""
        place = self._server_places.get(mxc.server_name)
        if place is None:
            place = asyncio.Semaphore(AT_ONCE_OF_A_SERVER)
            self._server_places[mxc.server_name] = place
        return place

    async def _receive(self, fetch: Fetch, remote: RemoteFile) -> None:
        if remote.length is not None and remote.length > self._ground.config.max_remote_size:
            raise self._too_large()
        with self._ground.media_bytes.incoming() as incoming:
            fetch.begin(remote, incoming)
            received = 0
            try:
                async for chunk in remote.chunks:
                    received += len(chunk)
                    if received > self._ground.config.max_remote_size:
                        raise self._too_large()
                    await incoming.write(chunk)
                    fetch.grew()
                await incoming.flush()
                fetch.grew()
                if remote.length is not None and received != remote.length:
                    raise BadGateway(f"{fetch.mxc.server_name} did not send the whole file")
                sha256 = await self._store(fetch.mxc, remote, incoming)
                await fetch.complete(
                    Stored(self._ground.media_bytes, content_name(sha256)), received
                )
            finally:
                await fetch.no_longer_read()

    async def _store(self, mxc: Mxc, remote: RemoteFile, incoming: Incoming) -> bytes:
        async with self._contents.stored(incoming) as sha256:
            new = NewMedia(
                mxc,
                sha256,
                _text(remote.content_type, 255),
                _text(remote.file_name, MAX_TEXT),
                is_public=self._ground.config.unauthenticated_paths == "open",
            )
            async with self._ground.database.transaction() as connection:
                await media.insert(connection, new, self._ground.clock())
            return sha256

    def _too_large(self) -> TooLarge:
        # "Homeservers should not proxy or thumbnail large files or images from remote
        # homeservers, returning a HTTP 502 error with the `M_TOO_LARGE` code."
        limit = self._ground.config.max_remote_size
        return TooLarge(f"Remote files may have {limit} bytes at most", status=502)

    def _remember(self, fetch: Fetch, error: MatrixError) -> None:
        error = plain(error)
        if error.errcode != "M_NOT_YET_UPLOADED":
            lasts = NOT_FOUND_MS if error.errcode in {"M_NOT_FOUND", "M_TOO_LARGE"} else FAILED_MS
            self._failed.put(fetch.mxc, (self._ground.clock() + lasts, error))
        fetch.fail(error)

    async def close(self) -> None:
        """End all fetches."""
        tasks = [fetch.task for fetch in self._on_the_way.values() if fetch.task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def plain(error: MatrixError) -> MatrixError:
    """The error anew: one that is kept or raised for many must not gather their tracebacks."""
    return MatrixError(error.message, errcode=error.errcode, status=error.status)


def _text(value: str | None, length: int) -> str | None:
    """What another server said, fit for the database."""
    return value.replace("\0", "")[:length] if value else None
