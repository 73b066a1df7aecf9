"""Logins of devices without a browser, which a user allows in a browser elsewhere.

Rules of this file: as for codes: known by their hashes, good once and for a short time, in memory.
client-server-api#device-authorisation-flow, RFC 8628
"""

from __future__ import annotations

import secrets

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import OAuthError
from homeserver.lru_cache import LruCache
from homeserver.protocol.oauth.requests import Scope
from homeserver.services.oauth.codes import Allowed, hash_of

LIFETIME_MS = 10 * 60 * 1000
INTERVAL_SECONDS = 5
SLACK_MS = 1000
MAX_CODES = 10_000
# "end users will be asked to type the code": no vowels, so no words; no letters like digits.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


class Started(Struct, frozen=True):
    """What the device is told: `user_code` is for its user."""

    device_code: str
    user_code: str


class Pending(Struct):
    """A login that waits for a user."""

    client_id: str
    scope: Scope
    expires_at: int
    interval_ms: int = INTERVAL_SECONDS * 1000
    next_poll_at: int = 0
    user_id: str | None = None
    denied: bool = False


class DeviceCodes:
    """The logins that have not come to an end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: LruCache[bytes, Pending] = LruCache(MAX_CODES)
        self._by_user_code: LruCache[str, Pending] = LruCache(MAX_CODES)

    def start(self, client_id: str, scope: Scope) -> Started:
        """A new login, which may be allowed for LIFETIME_MS."""
        device_code = f"hsd_{secrets.token_urlsafe(32)}"
        letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
        pending = Pending(client_id, scope, self._clock() + LIFETIME_MS)
        self._pending.put(hash_of(device_code), pending)
        self._by_user_code.put(letters, pending)
        return Started(device_code, f"{letters[:4]}-{letters[4:]}")

    def find(self, user_code: str) -> Pending | None:
        """The login with this code, however it was typed, if nobody has decided about it yet."""
        pending = self._by_user_code.get(_letters(user_code))
        return None if pending is None or pending.expires_at <= self._clock() else pending

    def decide(self, user_code: str, user_id: str | None) -> None:
        """The user allows it, or (None) doesn't; the code they typed is used up."""
        pending = self.find(user_code)
        if pending is not None:
            pending.user_id = user_id
            pending.denied = user_id is None
            self._by_user_code.discard(_letters(user_code))

    def poll(self, device_code: str, client_id: str) -> Allowed | None:
        """What was allowed, which is used up now; None if there is no such code (any more).

        Raises OAuthError with what RFC 8628 (section 3.5) wants the device to know until then.
        """
        pending = self._pending.get(hash_of(device_code))
        if pending is None:
            return None
        if pending.client_id != client_id:
            raise OAuthError("invalid_grant", "The code was given to another client")
        if pending.expires_at <= self._clock():
            raise OAuthError("expired_token", "The code has expired")
        if pending.denied:
            raise OAuthError("access_denied", "The user did not allow it")
        if pending.user_id is None:
            raise self._not_yet(pending)
        self._pending.discard(hash_of(device_code))
        return Allowed(pending.user_id, pending.client_id, pending.scope)

    def _not_yet(self, pending: Pending) -> OAuthError:
        too_early = self._clock() < pending.next_poll_at
        if too_early:  # "the interval MUST be increased by 5 seconds for this and all subsequent"
            pending.interval_ms += INTERVAL_SECONDS * 1000
        pending.next_poll_at = self._clock() + pending.interval_ms - SLACK_MS
        if too_early:
            return OAuthError("slow_down", "Ask less often")
        return OAuthError("authorization_pending", "The user has not decided yet")


def _letters(user_code: str) -> str:
    return "".join(letter for letter in user_code.upper() if letter.isalnum())
