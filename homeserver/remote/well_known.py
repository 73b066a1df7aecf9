"""Another server's `/.well-known/matrix/server`: to which name it delegates, cached.

server-server-api#getwell-knownmatrixserver
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

import aiohttp
import msgspec

from homeserver.json_types import BAD_JSON
from homeserver.lru_cache import LruCache
from homeserver.protocol.identifiers import is_server_name
from homeserver.remote.guarded_client import TooMuch, read_at_most

FETCH_SECONDS = 15.0
MAX_BYTES = 51_200
MAX_REDIRECTS = 10
CACHED_NAMES = 10_000
# "The recommended sensible default is 24 hours." At most "48 hours is recommended".
DEFAULT_SECONDS = 24 * 3600.0
MAX_SECONDS = 48 * 3600.0
MIN_SECONDS = 300.0
# "Errors are recommended to be cached for up to an hour, and servers are encouraged to
# exponentially back off for repeated failures."
FIRST_ERROR_SECONDS = 60.0
MAX_ERROR_SECONDS = 3600.0
GRACE_FAILURES = 5
"""For so many failures in a row (half an hour) a host that can't be asked is believed to delegate
as before: its homeserver need not suffer from its web server."""

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)


class _Invalid(Exception):
    """The answer doesn't delegate to anybody."""


class _Answer(msgspec.Struct):
    server: str = msgspec.field(name="m.server")


class _Entry(msgspec.Struct, frozen=True):
    delegated: str | None
    expires_at: float
    failures: int = 0


class WellKnown:
    """Asks hosts for their delegation and remembers the answers and the failures.

    `session` is the guarded one: whatever a host redirects to, private addresses aren't reached.
    """

    def __init__(self, session: aiohttp.ClientSession, monotonic: Callable[[], float]) -> None:
        self._session = session
        self._monotonic = monotonic
        self._entries: LruCache[str, _Entry] = LruCache(CACHED_NAMES)
        self._asking: dict[str, asyncio.Task[str | None]] = {}

    async def delegated_name(self, host: str) -> str | None:
        """The server name that `host` delegates to, or None if it doesn't."""
        entry = self._entries.get(host)
        if entry is not None and entry.expires_at > self._monotonic():
            return entry.delegated
        task = self._asking.get(host)
        if task is None:
            task = asyncio.create_task(self._ask(host, entry))
            self._asking[host] = task
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        return await asyncio.shield(task)

    async def _ask(self, host: str, old: _Entry | None) -> str | None:
        failures = 1 + (old.failures if old else 0)
        seconds = min(FIRST_ERROR_SECONDS * 2.0 ** (failures - 1), MAX_ERROR_SECONDS)
        delegated = None
        try:
            delegated, seconds = await self._fetch(host)
            failures = 0
        except (aiohttp.ClientError, OSError):
            if old is not None and failures <= GRACE_FAILURES:
                delegated = old.delegated
        except (TooMuch, _Invalid, *BAD_JSON):
            pass  # it says that it doesn't delegate
        self._entries.put(host, _Entry(delegated, self._monotonic() + seconds, failures))
        return delegated

    async def _fetch(self, host: str) -> tuple[str, float]:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        url = f"https://{host}/.well-known/matrix/server"
        async with self._session.get(url, timeout=timeout, max_redirects=MAX_REDIRECTS) as response:
            if response.status >= 500:
                response.raise_for_status()
            if response.status != 200:
                raise _Invalid
            body = await read_at_most(response, MAX_BYTES)
            return _parse(body), cache_seconds(response.headers)


def _parse(body: bytes) -> str:
    delegated = msgspec.json.decode(body, type=_Answer).server
    if not is_server_name(delegated):
        raise _Invalid
    return delegated


def cache_seconds(headers: Mapping[str, str]) -> float:
    """How long an answer with these headers may be kept."""
    control = headers.get("Cache-Control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return MIN_SECONDS
    age = _MAX_AGE.search(control)
    seconds = float(age[1]) if age else DEFAULT_SECONDS
    return max(MIN_SECONDS, min(seconds, MAX_SECONDS))
