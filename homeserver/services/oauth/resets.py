"""Users who have agreed, on a page of this server, that their cross-signing keys are replaced.

client-server-api#oauth-authentication
"""

from __future__ import annotations

from typing import Any

from homeserver.clock import Clock
from homeserver.errors import Forbidden
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache

LIFETIME_MS = 10 * 60 * 1000
MAX_RESETS = 10_000
STAGES = ("m.oauth", "org.matrix.cross_signing_reset")
"""The authentication type, and its name before it was specified (MSC4312)."""


class CrossSigningResets:
    """Each agreement holds once and for a short time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._allowed: LruCache[str, int] = LruCache(MAX_RESETS)

    def allow(self, user_id: str) -> None:
        self._allowed.put(user_id, self._clock() + LIFETIME_MS)

    def is_allowed(self, user_id: str) -> bool:
        return (self._allowed.get(user_id) or 0) > self._clock()

    def used(self, user_id: str) -> None:
        self._allowed.discard(user_id)


class OAuthStage:
    """`m.oauth` in User-Interactive Authentication: the user has agreed on the page at `url`."""

    def __init__(self, resets: CrossSigningResets, url: str) -> None:
        self._resets = resets
        self._url = url

    def params(self) -> JsonObject | None:
        return {"url": self._url}

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        if user_id is None or not self._resets.is_allowed(user_id):
            raise Forbidden("The user has not agreed to it on the server's web page")
        self._resets.used(user_id)
        return True
