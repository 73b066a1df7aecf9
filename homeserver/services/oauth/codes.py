"""Authorization codes: what a user has allowed a client, until the client fetches its tokens.

Rules of this file: a code is known by its hash only, is good once and for a short time, and lives
in memory: a client whose login is interrupted by a restart begins anew.
client-server-api#authorisation-code-grant
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import OAuthError
from homeserver.lru_cache import LruCache
from homeserver.protocol.oauth.requests import Scope, proves

LIFETIME_MS = 2 * 60 * 1000
MAX_CODES = 10_000


class Allowed(Struct, frozen=True):
    """A user has allowed a client to log in as a device."""

    user_id: str
    client_id: str
    scope: Scope


class _Issued(Struct, frozen=True):
    allowed: Allowed
    redirect_uri: str
    code_challenge: str
    expires_at: int


class Codes:
    """The codes that nobody has redeemed yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: LruCache[bytes, _Issued] = LruCache(MAX_CODES)

    def issue(self, allowed: Allowed, redirect_uri: str, code_challenge: str) -> str:
        """A new code, good for LIFETIME_MS."""
        code = f"hsc_{secrets.token_urlsafe(32)}"
        expires_at = self._clock() + LIFETIME_MS
        self._codes.put(hash_of(code), _Issued(allowed, redirect_uri, code_challenge, expires_at))
        return code

    def redeem(self, code: str, request: Mapping[str, str]) -> Allowed | None:
        """What the code stands for, which is used up now; None if it isn't known (any more).

        `request` has the `client_id`, `redirect_uri` and `code_verifier` of the token request.
        Raises OAuthError `invalid_grant` if they aren't those to which it was given.
        """
        issued = self._codes.get(hash_of(code))
        if issued is None:
            return None
        if issued.allowed.client_id != request.get("client_id"):
            raise OAuthError("invalid_grant", "The code was given to another client")
        if issued.redirect_uri != request.get("redirect_uri"):
            raise OAuthError("invalid_grant", "The code was sent to another redirect_uri")
        if not proves(request.get("code_verifier", ""), issued.code_challenge):
            raise OAuthError("invalid_grant", "This is not the verifier of the code_challenge")
        self._codes.discard(hash_of(code))
        if issued.expires_at <= self._clock():
            raise OAuthError("invalid_grant", "The code has expired")
        return issued.allowed


def hash_of(code: str) -> bytes:
    """The name of a code in memory."""
    return hashlib.sha256(code.encode("utf-8", "surrogateescape")).digest()


def family_of(code: str) -> str:
    """What all tokens that come of this code have in common, so that they can end together."""
    return hashlib.sha256(b"family " + hash_of(code)).hexdigest()[:32]
