"""Proving a mail address: what the endpoints and the pages do in the same way."""

from __future__ import annotations

import html
from collections.abc import Mapping
from urllib.parse import parse_qs

from homeserver.errors import ThreepidInUse, ThreepidNotFound
from homeserver.http.body import read_body
from homeserver.http.call import Call
from homeserver.http.rate_limits import Limit
from homeserver.protocol.identifiers import folded_address
from homeserver.services.mail_validation import Purpose, Request

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


async def read_form(call: Call) -> dict[str, str]:
    """The (first) values of the fields of a form that was sent. Raises `TooLarge`."""
    body = await read_body(call.request, MAX_FORM_BYTES)
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def hidden_inputs(fields: Mapping[str, str]) -> str:
    """What a form sends along without being asked, as HTML."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
        for name, value in fields.items()
    )
