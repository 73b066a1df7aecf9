"""Tokens with which somebody else's client logs in once, soon: `m.login.token`.

They live in memory: who is interrupted by a restart asks for a new one.
client-server-api#post_matrixclientv1loginget_token
"""

from __future__ import annotations

import secrets

from homeserver.clock import Clock
from homeserver.errors import Forbidden
from homeserver.lru_cache import LruCache

LIFETIME_MS = 2 * 60 * 1000
SSO_LIFETIME_MS = 10 * 1000
"""For a browser that carries it to its client at once."""
MAX_TOKENS = 10_000


class LoginTokens:
    """The tokens that nobody has used yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: LruCache[str, tuple[str, int]] = LruCache(MAX_TOKENS)

    def issue(self, user_id: str, lifetime_ms: int = LIFETIME_MS) -> str:
        """A new token for this user."""
        token = f"hsl_{secrets.token_urlsafe(24)}"
        self._tokens.put(token, (user_id, self._clock() + lifetime_ms))
        return token

    def redeem(self, token: str) -> str:
        """The user id of a token, which is used up now. Raises `Forbidden`."""
        found = self._tokens.get(token)
        self._tokens.discard(token)
        if found is None or found[1] <= self._clock():
            raise Forbidden("This login token is not valid (any more)")
        return found[0]
