"""Proving a mail address: what the endpoints and the pages do in the same way."""

from __future__ import annotations

from urllib.parse import parse_qs

from homeserver.errors import ThreepidAuthFailed, ThreepidInUse, ThreepidNotFound
from homeserver.http.body import read_body
from homeserver.http.call import Call
from homeserver.http.rate_limits import Limit
from homeserver.protocol.identifiers import folded_address
from homeserver.services.mail_validation import Proof, Purpose, Request

MAX_FORM_BYTES = 10_000


async def ask_for_letter(call: Call, purpose: Purpose, request: Request) -> str:
    """Send a letter, so often; the id of the proof that it may bring.

    Raises `ThreepidNotFound` or `ThreepidInUse` if the address can't serve this purpose, and
    `LimitExceeded`.
    """
    owner = await call.parts.accounts.owner_of_mail(request.address)
    if purpose is Purpose.PASSWORD and owner is None:
        raise ThreepidNotFound("No account has this address")
    if purpose is not Purpose.PASSWORD and owner is not None:
        raise ThreepidInUse("This address belongs to an account")
    call.parts.rate_limits.take(Limit.LOGIN, folded_address(request.address))
    return await call.parts.mail_validation.ask(purpose, request)


async def use_up_for_password(call: Call, proof: Proof) -> None:
    """The proof serves for one new password only. Raises `ThreepidAuthFailed`."""
    if not await call.parts.mail_validation.used(proof):
        raise ThreepidAuthFailed("This address was confirmed for another change of the password")


async def read_form(call: Call) -> dict[str, str]:
    """The (first) values of the fields of a form that was sent. Raises `TooLarge`."""
    body = await read_body(call.request, MAX_FORM_BYTES)
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
