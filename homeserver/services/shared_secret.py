"""Who knows the registration shared secret makes accounts: Synapse's scheme, used by many scripts.

The caller fetches a nonce and sends an HMAC-SHA1, keyed with the secret, of what it asks for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import Forbidden, UnknownError
from homeserver.lru_cache import LruCache

LIFETIME_MS = 60_000
MAX_NONCES = 10_000


class Wish(Struct, frozen=True):
    """The account that somebody asks for."""

    nonce: str
    username: str
    password: str
    admin: bool
    user_type: str | None


class SharedSecret:
    """The nonces that nobody has used yet."""

    def __init__(self, secret: str | None, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._nonces: LruCache[str, int] = LruCache(MAX_NONCES)

    def new_nonce(self) -> str:
        """Good for one registration within LIFETIME_MS. Raises `UnknownError` without a secret."""
        self._key()
        nonce = secrets.token_hex(32)
        self._nonces.put(nonce, self._clock() + LIFETIME_MS)
        return nonce

    def check(self, wish: Wish, mac: str) -> None:
        """Raises `Forbidden` if the caller doesn't know the secret, `UnknownError` if the nonce
        isn't good (any more)."""
        expires_at = self._nonces.get(wish.nonce)
        self._nonces.discard(wish.nonce)
        if expires_at is None or expires_at <= self._clock():
            raise UnknownError("This nonce is not known, was used, or has expired")
        if not hmac.compare_digest(mac_of(wish, self._key()).encode(), mac.lower().encode()):
            raise Forbidden("The HMAC is wrong")

    def _key(self) -> str:
        if self._secret is None:
            raise UnknownError("Registration by shared secret is not enabled")
        return self._secret


def mac_of(wish: Wish, secret: str) -> str:
    """The HMAC, in hexadecimal digits, that proves that one knows the secret."""
    fields = [wish.nonce, wish.username, wish.password, "admin" if wish.admin else "notadmin"]
    if wish.user_type:
        fields.append(wish.user_type)
    message = "\0".join(fields).encode("utf-8", "surrogatepass")
    return hmac.new(secret.encode(), message, hashlib.sha1).hexdigest()
