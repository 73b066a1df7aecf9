"""Browsers in which a user is signed in: only for the pages of this server, not for the API.

Rules of this file: a browser is known by the hash of its cookie; it forgets its user after a while,
with the next start, and if their password changes.
"""

from __future__ import annotations

import hashlib
import secrets

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.lru_cache import LruCache
from homeserver.store import accounts
from homeserver.store.accounts import Account
from homeserver.store.database import Database

MAX_BROWSERS = 20_000


class _SignedIn(Struct, frozen=True):
    user_id: str
    password_hash: str | None
    expires_at: int


class Browsers:
    """Who is signed in where."""

    def __init__(self, database: Database, clock: Clock, lifetime_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._lifetime_ms = lifetime_ms
        self._browsers: LruCache[bytes, _SignedIn] = LruCache(MAX_BROWSERS)

    def sign_in(self, account: Account) -> str:
        """The cookie of a browser in which this user is signed in now. It is a new one always, so
        that nobody can have laid it there before."""
        cookie = new_cookie()
        expires_at = self._clock() + self._lifetime_ms
        signed_in = _SignedIn(account.user_id, account.password_hash, expires_at)
        self._browsers.put(_hash(cookie), signed_in)
        return cookie

    def sign_out(self, cookie: str) -> None:
        self._browsers.discard(_hash(cookie))

    async def account(self, cookie: str) -> Account | None:
        """The account of who is signed in there, if it may (still) be used."""
        signed_in = self._browsers.get(_hash(cookie))
        if signed_in is None or signed_in.expires_at <= self._clock():
            return None
        async with self._database.connection() as connection:
            account = await accounts.find(connection, signed_in.user_id)
        if account is None or account.is_deactivated or account.is_locked:
            return None
        return account if account.password_hash == signed_in.password_hash else None


def new_cookie() -> str:
    """The cookie of a browser of which nothing is known yet."""
    return secrets.token_urlsafe(32)


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).digest()
