"""Proofs that a mail address is somebody's: a link is sent there, and followed.

Rules of this file: a proof holds for one purpose, so that nobody who confirms an address for one
thing has agreed to another; it ends after a while, and serves once. The letter outlives a restart,
and so does the proof.
client-server-api#adding-account-administrative-contact-information
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, MissingParam, NotFound, ThreepidAuthFailed
from homeserver.json_types import JsonObject
from homeserver.mail import Letter, Postman
from homeserver.protocol.identifiers import folded_address
from homeserver.protocol.signatures import Signer
from homeserver.store import mail_proofs as proof_store
from homeserver.store.database import Database
from homeserver.store.mail_proofs import ProofRow

MAIL = "m.login.email.identity"
"""The stage of user-interactive authentication in which such a proof is given."""
LIFETIME_MS = 60 * 60 * 1000
MAX_LINK = 2_000
PAGE = "/_matrix/static/client/confirm_mail"
_ADDRESS = re.compile(r"[^\s@<>(),;:\\\"\[\]\x00-\x1f]{1,64}@[^\s@<>(),;:\\\"\[\]\x00-\x1f]{1,180}")
_SECRET = re.compile(r"[0-9A-Za-z.=_-]{1,255}")


class Purpose(Enum):
    """What an address is confirmed for, with what the letter says of it."""

    ADD = "add this address to their account"
    PASSWORD = "set a new password for the account with this address"  # noqa: S105 - a sentence
    REGISTER = "make an account with this address"


class Proof(Struct, frozen=True):
    """An address that is to be confirmed, or has been (`validated_at`)."""

    sid: str
    purpose: Purpose
    address: str
    next_link: str | None
    validated_at: int | None


class Request(Struct, frozen=True):
    """What a client says when it asks for a letter."""

    address: str
    client_secret: str
    send_attempt: int
    next_link: str | None = None


class MailValidation:
    """The proofs that are open, and those that were given."""

    def __init__(
        self, database: Database, postman: Postman, signer: Signer, url: str | None, clock: Clock
    ) -> None:
        """`url` is where people reach this server."""
        self._database = database
        self._postman = postman
        self._signer = signer
        self._url = (url or f"https://{signer.server_name}").rstrip("/")
        self._clock = clock

    @property
    def works(self) -> bool:
        """Can letters be sent?"""
        return self._postman.works

    async def ask(self, purpose: Purpose, request: Request) -> str:
        """Send the letter, but not twice for the same attempt; the proof's id.

        Raises InvalidParam, Unavailable.
        """
        wanted = self._row(purpose, request)
        async with self._database.connection() as connection:
            row = await proof_store.put(connection, wanted, self._clock())
        if request.send_attempt > row.send_attempt:
            await self._postman.send(self._letter(row, purpose))
            async with self._database.connection() as connection:
                await proof_store.note_letter(connection, row.sid, request.send_attempt)
        return row.sid

    def _row(self, purpose: Purpose, request: Request) -> ProofRow:
        if _SECRET.fullmatch(request.client_secret) is None:
            raise InvalidParam("`client_secret` has 1 to 255 of the characters 0-9 a-z A-Z . = _ -")
        if request.next_link is not None and len(request.next_link) > MAX_LINK:
            raise InvalidParam(f"`next_link` has at most {MAX_LINK} characters")
        return ProofRow(
            sid=secrets.token_urlsafe(12),
            purpose=purpose.name,
            address=canonical_address(request.address),
            client_secret=_hashed(request.client_secret),
            expires_at=self._clock() + LIFETIME_MS,
            next_link=request.next_link,
        )

    def _letter(self, row: ProofRow, purpose: Purpose) -> Letter:
        query = urlencode({"sid": row.sid, "token": self._token(row.sid)})
        link, server_name = f"{self._url}{PAGE}?{query}", self._signer.server_name
        text = (
            f"Somebody, you I hope, wants to {purpose.value} on {server_name}.\n\n"
            f"If it was you, confirm it here within an hour:\n\n{link}\n\n"
            "If it wasn't, do nothing: without this link nothing happens.\n"
        )
        return Letter(row.address, f"Confirm your address for {server_name}", text)

    def _token(self, sid: str) -> str:
        """What only who has the letter knows: it isn't stored, for who reads the database is not
        who reads the mail."""
        signature = self._signer.sign(b"mail proof " + sid.encode("utf-8", "replace"))
        return urlsafe_b64encode(_hashed(signature)).decode().rstrip("=")

    async def awaited(self, sid: str, token: str) -> Proof:
        """The proof that a link is for. Raises NotFound."""
        row = None
        if secrets.compare_digest(self._token(sid).encode(), token.encode("utf-8", "replace")):
            row = await self._open(sid)
        if row is None:
            raise NotFound("This link is not known, or too old")
        return _proof(row)

    async def confirm(self, sid: str, token: str) -> Proof:
        """Somebody has followed the link. Raises NotFound."""
        proof = await self.awaited(sid, token)
        async with self._database.connection() as connection:
            await proof_store.note_validated(connection, sid, self._clock())
        return proof

    async def proven(self, sid: str, client_secret: str, purpose: Purpose | None = None) -> Proof:
        """A confirmed address. Raises ThreepidAuthFailed if it isn't, or not for this."""
        row = await self._open(sid)
        known = row is not None and secrets.compare_digest(
            row.client_secret, _hashed(client_secret)
        )
        if row is None or not known or purpose not in (None, Purpose[row.purpose]):
            raise ThreepidAuthFailed("This address was not asked to be confirmed, or too long ago")
        if row.validated_at is None:
            raise ThreepidAuthFailed("The link in the mail was not followed yet")
        return _proof(row)

    async def used(self, proof: Proof) -> bool:
        """It has served. False if it had before: several authentication sessions may know it."""
        async with self._database.connection() as connection:
            return await proof_store.delete(connection, proof.sid)

    async def _open(self, sid: str) -> ProofRow | None:
        async with self._database.connection() as connection:
            return await proof_store.find(connection, sid, self._clock())


def _proof(row: ProofRow) -> Proof:
    purpose = Purpose[row.purpose]
    return Proof(row.sid, purpose, row.address, row.next_link, row.validated_at)


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


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
                return await self._validation.proven(sid, client_secret)
        raise MissingParam("`auth.threepid_creds` needs `sid` and `client_secret`")


def canonical_address(address: str) -> str:
    """One form for all that mean the same. Raises InvalidParam."""
    canonical = folded_address(address)
    if _ADDRESS.fullmatch(canonical) is None:
        raise InvalidParam("This is not a mail address")
    return canonical
