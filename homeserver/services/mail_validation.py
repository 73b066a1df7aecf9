"""Proofs that a mail address is somebody's: a link is sent there, and followed.

Rules of this file: a proof holds for one purpose, so that nobody who confirms an address for one
thing has agreed to another; it lives in memory only, ends after a while, and serves once.
client-server-api#adding-account-administrative-contact-information
"""

from __future__ import annotations

import re
import secrets
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, MissingParam, NotFound, ThreepidAuthFailed
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.mail import Letter, Postman
from homeserver.protocol.identifiers import folded_address

MAIL = "m.login.email.identity"
"""The stage of user-interactive authentication in which such a proof is given."""
LIFETIME_MS = 60 * 60 * 1000
MAX_PROOFS = 10_000
MAX_LINK = 2_000
PAGE = "/_matrix/static/client/confirm_mail"
_ADDRESS = re.compile(r"[^\s@<>(),;:\\\"\[\]\x00-\x1f]{1,64}@[^\s@<>(),;:\\\"\[\]\x00-\x1f]{1,180}")
_SECRET = re.compile(r"[0-9A-Za-z.=_-]{1,255}")


class Purpose(Enum):
    """What an address is confirmed for, with what the letter says of it."""

    ADD = "add this address to their account"
    PASSWORD = "set a new password for the account with this address"  # noqa: S105 - a sentence
    REGISTER = "make an account with this address"


class Proof(Struct):
    """An address that is to be confirmed, or has been (`validated_at`)."""

    sid: str
    token: str
    purpose: Purpose
    address: str
    client_secret: str
    expires_at: int
    send_attempt: int = -1
    next_link: str | None = None
    validated_at: int | None = None


class Request(Struct, frozen=True):
    """What a client says when it asks for a letter."""

    address: str
    client_secret: str
    send_attempt: int
    next_link: str | None = None


class MailValidation:
    """The proofs that are open, and those that were given."""

    def __init__(self, postman: Postman, server_name: str, url: str | None, clock: Clock) -> None:
        """`url` is where people reach this server."""
        self._postman = postman
        self._server_name = server_name
        self._url = (url or f"https://{server_name}").rstrip("/")
        self._clock = clock
        self._proofs: LruCache[str, Proof] = LruCache(MAX_PROOFS)
        self._sids: LruCache[tuple[Purpose, str, str], str] = LruCache(MAX_PROOFS)

    @property
    def works(self) -> bool:
        """Can letters be sent?"""
        return self._postman.works

    async def ask(self, purpose: Purpose, request: Request) -> str:
        """Send the letter, but not twice for the same attempt; the proof's id.

        Raises InvalidParam, Unavailable.
        """
        proof = self._proof_for(purpose, request)
        if request.send_attempt > proof.send_attempt:
            await self._postman.send(self._letter(proof))
            proof.send_attempt = request.send_attempt
        return proof.sid

    def _proof_for(self, purpose: Purpose, request: Request) -> Proof:
        if _SECRET.fullmatch(request.client_secret) is None:
            raise InvalidParam("`client_secret` has 1 to 255 of the characters 0-9 a-z A-Z . = _ -")
        if request.next_link is not None and len(request.next_link) > MAX_LINK:
            raise InvalidParam(f"`next_link` has at most {MAX_LINK} characters")
        address = canonical_address(request.address)
        key = (purpose, address, request.client_secret)
        sid = self._sids.get(key)
        proof = None if sid is None else self._open(sid)
        if proof is None:
            proof = Proof(
                sid=secrets.token_urlsafe(12),
                token=secrets.token_urlsafe(24),
                purpose=purpose,
                address=address,
                client_secret=request.client_secret,
                expires_at=self._clock() + LIFETIME_MS,
                next_link=request.next_link,
            )
            self._proofs.put(proof.sid, proof)
            self._sids.put(key, proof.sid)
        return proof

    def _letter(self, proof: Proof) -> Letter:
        link = f"{self._url}{PAGE}?{urlencode({'sid': proof.sid, 'token': proof.token})}"
        text = (
            f"Somebody, you I hope, wants to {proof.purpose.value} on {self._server_name}.\n\n"
            f"If it was you, confirm it here within an hour:\n\n{link}\n\n"
            "If it wasn't, do nothing: without this link nothing happens.\n"
        )
        return Letter(proof.address, f"Confirm your address for {self._server_name}", text)

    def awaited(self, sid: str, token: str) -> Proof:
        """The proof that a link is for. Raises NotFound."""
        proof = self._open(sid)
        if proof is None or not secrets.compare_digest(proof.token.encode(), token.encode()):
            raise NotFound("This link is not known, or too old")
        return proof

    def confirm(self, sid: str, token: str) -> Proof:
        """Somebody has followed the link. Raises NotFound."""
        proof = self.awaited(sid, token)
        proof.validated_at = proof.validated_at or self._clock()
        return proof

    def proven(self, sid: str, client_secret: str, purpose: Purpose | None = None) -> Proof:
        """A confirmed address. Raises ThreepidAuthFailed if it isn't, or not for this."""
        proof = self._open(sid)
        known = proof is not None and secrets.compare_digest(
            proof.client_secret.encode(), client_secret.encode("utf-8", "replace")
        )
        if proof is None or not known or purpose not in (None, proof.purpose):
            raise ThreepidAuthFailed("This address was not asked to be confirmed, or too long ago")
        if proof.validated_at is None:
            raise ThreepidAuthFailed("The link in the mail was not followed yet")
        return proof

    def used(self, proof: Proof) -> None:
        """It has served."""
        self._proofs.discard(proof.sid)

    def _open(self, sid: str) -> Proof | None:
        proof = self._proofs.get(sid)
        return None if proof is None or proof.expires_at <= self._clock() else proof


class MailStage:
    """`m.login.email.identity`: finds out the `Proof` of an address; what for is to be checked.

    client-server-api#email-based-identity--homeserver
    """

    def __init__(self, validation: MailValidation) -> None:
        self._validation = validation

    def params(self) -> JsonObject | None:
        return None

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        credentials = auth.get("threepid_creds", auth.get("threepidCreds"))
        match credentials:
            case {"sid": str(sid), "client_secret": str(client_secret)}:
                return self._validation.proven(sid, client_secret)
        raise MissingParam("`auth.threepid_creds` needs `sid` and `client_secret`")


def canonical_address(address: str) -> str:
    """One form for all that mean the same. Raises InvalidParam."""
    canonical = folded_address(address)
    if _ADDRESS.fullmatch(canonical) is None:
        raise InvalidParam("This is not a mail address")
    return canonical
