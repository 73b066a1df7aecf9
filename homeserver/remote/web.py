"""Web pages and pictures that somebody linked to: fetched with every suspicion.

Rules of this file: each hop of a redirect is asked about again; what is compressed is unpacked up
to the limit and no further; a page is read up to a size, and what is behind it doesn't matter.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from aiohttp import ClientError, ClientResponse, ClientSession
from msgspec import Struct
from yarl import URL

MAX_HOPS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_GZIP_OR_ZLIB = 47  # wbits: zlib looks at the header which of the two it is


class NotFetched(Exception):
    """The text says why; it is for the log, not for whoever asked."""


class Fetched(Struct, frozen=True):
    """What was at `url`, the last one of the redirects. `is_whole`: nothing was cut off."""

    url: URL
    content_type: str
    charset: str | None
    body: bytes
    is_whole: bool


class Web:
    """Fetches by GET. `allows` is asked about each URL, redirects included."""

    def __init__(self, session: ClientSession, allows: Callable[[URL], bool]) -> None:
        self._session = session  # a guarded one
        self.allows = allows

    async def get(self, url: URL, max_bytes: int, headers: Mapping[str, str]) -> Fetched:
        """What is there, cut off after `max_bytes`. Raises NotFetched, TimeoutError."""
        try:
            for _ in range(MAX_HOPS):
                if not self.allows(url):
                    raise NotFetched("the address is not allowed")
                async with self._session.get(
                    url,
                    headers={**headers, "Accept-Encoding": "identity"},
                    allow_redirects=False,
                    auto_decompress=False,
                ) as response:
                    if response.status not in _REDIRECTS:
                        return await _fetched(url, response, max_bytes)
                    url = url.join(URL(response.headers.get("Location", "")))
        except (ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise NotFetched(str(error)) from error
        raise NotFetched("too many redirects")


async def _fetched(url: URL, response: ClientResponse, max_bytes: int) -> Fetched:
    if response.status != 200:
        raise NotFetched(f"status {response.status}")
    packed = await _first(response, max_bytes + 1)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding in {"gzip", "x-gzip", "deflate"}:
        body = _unpacked(packed, max_bytes + 1)
    elif encoding == "identity":
        body = packed
    else:
        raise NotFetched(f"content encoding {encoding[:20]}")
    is_whole = len(packed) <= max_bytes and len(body) <= max_bytes
    return Fetched(url, response.content_type, response.charset, body[:max_bytes], is_whole)


async def _first(response: ClientResponse, size: int) -> bytes:
    """The first `size` bytes; the connection is dropped if there are more."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= size:
            response.close()
            break
    return bytes(body[:size])


def _unpacked(packed: bytes, size: int) -> bytes:
    """The first `size` bytes of what was compressed, as far as it can be read."""
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(packed, size)
    except zlib.error as error:
        raise NotFetched(f"broken compression: {error}") from error
