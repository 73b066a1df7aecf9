"""Push gateways over HTTP, each left in peace for a while after it failed.

Rules of this file: a gateway is anybody's URL. Its answer is bounded in time and size, redirects
are not followed, private addresses not reached (`guarded_client`). While it fails, one request at
a time is a probe; all others wait for what becomes of it. A slow one holds only so many
connections, and so does a user with many slow ones: others find theirs free. What one user has it
refuse delays that user's pusher only.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
import msgspec
import structlog
from msgspec import Struct, field

from homeserver.backoff import Backoff
from homeserver.clock import Clock
from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.remote.guarded_client import TooMuch, read_at_most

MAX_ANSWER_BYTES = 64 * 1024
BACKOFF_MS = Backoff(1_000, 3600 * 1000)
REMEMBERED = 10_000
OVERLOADED = (408, 429)
CONNECTIONS = 1000
PER_GATEWAY = 100
PER_USER = 10
"""Requests under way at once."""

log = structlog.get_logger()


class GatewayFailed(Exception):
    """The gateway did not take the notification; it is to be tried again later."""


class GatewayRefused(GatewayFailed):
    """It answered, and refuses what this pusher tells: that is no reason to spare it others'."""


class _Outage(Struct):
    failures: int = 0
    retry_at: int = 0
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Gateways:
    """Tells push gateways. `session` is a guarded one with a short time limit."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._outages: dict[str, _Outage] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ready(self, url: str) -> None:
        """Wait until the gateway may be asked (again)."""
        while (outage := self._outages.get(_host(url))) is not None:
            wait = outage.retry_at - self._clock()
            if wait <= 0:
                return
            await asyncio.sleep(wait / 1000)

    async def notify(self, user_id: str, url: str, body: JsonObject) -> frozenset[str]:
        """Tell it of a user's news; gives the pushkeys that it rejects.

        Raises GatewayFailed, GatewayRefused.
        """
        host = _host(url)
        outage = self._outages.get(host)
        if outage is None:
            return await self._notify(user_id, url, body, None)
        async with outage.probing:
            if self._outages.get(host) is outage and outage.retry_at > self._clock():
                raise GatewayFailed("it has just failed")
            return await self._notify(user_id, url, body, outage)

    async def _notify(
        self, user_id: str, url: str, body: JsonObject, probed: _Outage | None
    ) -> frozenset[str]:
        host = _host(url)
        async with self._turn(user_id, PER_USER), self._turn(host, PER_GATEWAY):
            if self._outages.get(host) not in (None, probed):
                raise GatewayFailed("it failed while this was waiting")
            try:
                rejected = await self._post(url, body)
            except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, TooMuch) as error:
                self._failed(host, type(error).__name__)
                raise GatewayFailed(str(error)) from error
            except GatewayRefused:
                self._outages.pop(host, None)
                raise
            except GatewayFailed as error:
                self._failed(host, str(error))
                raise
        self._outages.pop(host, None)
        return rejected

    def _turn(self, whose: str, at_once: int) -> asyncio.Semaphore:
        return self._turns.setdefault(whose, asyncio.Semaphore(at_once))

    async def _post(self, url: str, body: JsonObject) -> frozenset[str]:
        headers = {"Content-Type": "application/json"}
        data = msgspec.json.encode(body)
        async with self._session.post(
            url, data=data, headers=headers, allow_redirects=False
        ) as response:
            answer = await read_at_most(response, MAX_ANSWER_BYTES)
            if 400 <= response.status < 500 and response.status not in OVERLOADED:
                raise GatewayRefused(f"status {response.status}")
            if response.status != 200:
                raise GatewayFailed(f"status {response.status}")
        return _rejected(answer)

    def _failed(self, host: str, reason: str) -> None:
        outage = self._outages.setdefault(host, _Outage())
        if len(self._outages) > REMEMBERED:
            del self._outages[next(iter(self._outages))]
        now = self._clock()
        if outage.retry_at > now:
            return  # several requests were under way when it failed first
        outage.failures += 1
        outage.retry_at = now + int(BACKOFF_MS.after(outage.failures))
        log.info("push gateway failed", host=host, reason=reason, failures=outage.failures)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def _rejected(answer: bytes) -> frozenset[str]:
    """ "A list of all pushkeys given in the notification request that are not valid." """
    try:
        decoded = msgspec.json.decode(answer)
    except BAD_JSON:
        raise GatewayFailed("the answer is no JSON") from None
    rejected = decoded.get("rejected") if isinstance(decoded, dict) else None
    if not isinstance(rejected, list):
        return frozenset()
    return frozenset(pushkey for pushkey in rejected if isinstance(pushkey, str))
