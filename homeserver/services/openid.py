"""Tokens with which users prove to third parties who they are; they live in memory: they are
exchanged at once, and a client that is told "unknown" gets itself another.

client-server-api#openid
"""

from __future__ import annotations

import secrets

from homeserver.clock import Clock
from homeserver.errors import UnknownToken
from homeserver.lru_cache import LruCache

LIFETIME_MS = 3600 * 1000
MAX_TOKENS = 20_000


class OpenIdTokens:
    """The tokens given out lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: LruCache[str, tuple[str, int]] = LruCache(MAX_TOKENS)

    def issue(self, user_id: str) -> str:
        """A new token, good for LIFETIME_MS."""
        token = f"hso_{secrets.token_urlsafe(24)}"
        self._tokens.put(token, (user_id, self._clock() + LIFETIME_MS))
        return token

    def user_of(self, token: str) -> str:
        """Whose token it is. Raises `UnknownToken`."""
        found = self._tokens.get(token)
        if found is None or found[1] <= self._clock():
            raise UnknownToken("This OpenID token is not known, or has expired")
        return found[0]
