"""Mail addresses of accounts: client-server-api#adding-account-administrative-contact-information.

This server confirms mail addresses itself, trusts no identity server, and calls nobody.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from aiohttp.web import Response

from homeserver.errors import (
    MatrixError,
    ServerNotTrusted,
    ThreepidAuthFailed,
    ThreepidDenied,
    ThreepidInUse,
    ThreepidMediumNotSupported,
)
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.letters import ask_for_letter, read_form
from homeserver.http.markup import hidden
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.mail_validation import PAGE, Purpose, Request
from homeserver.services.user_interactive import Operation

endpoints = Endpoints()
pages = Endpoints(prefix="", versions=())
NO_MAIL = "This server sends no mail"
NO_PHONES = "This server confirms no phone numbers"


class MailBody(msgspec.Struct):
    client_secret: str
    email: str
    send_attempt: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    next_link: str | None = None


class PhoneBody(msgspec.Struct):
    client_secret: str
    country: str
    phone_number: str
    send_attempt: int


class AddBody(msgspec.Struct):
    client_secret: str
    sid: str
    auth: dict[str, Any] | None = None


class OldAddBody(msgspec.Struct):
    three_pid_creds: dict[str, Any]


class BindBody(msgspec.Struct):
    client_secret: str
    id_server: str
    id_access_token: str
    sid: str


class ThreepidBody(msgspec.Struct):
    medium: str
    address: str


@endpoints.get("/account/3pid", auth=Auth.USER)
async def get_threepids(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3account3pid"""
    threepids = await call.parts.accounts.threepids(call.requester.user_id)
    return {
        "threepids": [
            {
                "medium": threepid.medium,
                "address": threepid.address,
                "validated_at": threepid.validated_at,
                "added_at": threepid.added_at,
            }
            for threepid in threepids
        ]
    }


@endpoints.post("/account/3pid", auth=Auth.USER)
async def add_by_identity_server(call: Call, body: OldAddBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pid"""
    raise ThreepidAuthFailed("This server asks no identity server: use /account/3pid/add")


@endpoints.post("/account/3pid/add", auth=Auth.USER, not_by_oauth=True, limit=Limit.LOGIN)
async def add_threepid(call: Call, body: AddBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidadd"""
    user_id = call.requester.user_id
    mail = call.parts.mail_validation
    await mail.proven(body.sid, body.client_secret, Purpose.ADD)

    async def add(_: Mapping[str, Any]) -> JsonObject:
        proof = await mail.proven(body.sid, body.client_secret, Purpose.ADD)
        if not await call.parts.accounts.add_mail(user_id, proof.address, proof.validated_at or 0):
            raise ThreepidInUse("This address belongs to another account")
        await mail.used(proof)
        return {}

    operation = Operation("POST /account/3pid/add", user_id)
    flows = [["m.login.password"]]
    return await call.parts.user_interactive.run(operation, body.auth, flows, add)


@endpoints.post("/account/3pid/bind", auth=Auth.USER)
async def bind_threepid(call: Call, body: BindBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidbind"""
    raise ServerNotTrusted("This server trusts no identity server")


@endpoints.post("/account/3pid/delete", auth=Auth.USER, unstable=("/unstable/account/3pid/delete",))
async def delete_threepid(call: Call, body: ThreepidBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3piddelete"""
    await call.parts.accounts.remove_threepid(call.requester.user_id, body.medium, body.address)
    return {"id_server_unbind_result": "no-support"}


@endpoints.post("/account/3pid/unbind", auth=Auth.USER, unstable=("/unstable/account/3pid/unbind",))
async def unbind_threepid(call: Call, body: ThreepidBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidunbind

    We bind nothing to identity servers, so we know none from which to unbind.
    """
    return {"id_server_unbind_result": "no-support"}


@endpoints.post("/account/3pid/email/requestToken", auth=Auth.NONE, limit=Limit.LOGIN)
async def mail_to_add(call: Call, body: MailBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidemailrequesttoken"""
    _require_mail(call, ThreepidMediumNotSupported(NO_MAIL))
    return await _ask(call, Purpose.ADD, body)


@endpoints.post("/account/3pid/msisdn/requestToken", auth=Auth.NONE)
async def phone_to_add(call: Call, body: PhoneBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidmsisdnrequesttoken"""
    raise ThreepidMediumNotSupported(NO_PHONES)


@endpoints.post("/account/password/email/requestToken", auth=Auth.NONE, limit=Limit.LOGIN)
async def mail_for_password(call: Call, body: MailBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountpasswordemailrequesttoken"""
    _require_mail(call, ThreepidDenied(NO_MAIL))
    return await _ask(call, Purpose.PASSWORD, body)


@endpoints.post("/account/password/msisdn/requestToken", auth=Auth.NONE)
async def phone_for_password(call: Call, body: PhoneBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountpasswordmsisdnrequesttoken"""
    raise ThreepidDenied(NO_PHONES)


@endpoints.post("/register/email/requestToken", auth=Auth.NONE, limit=Limit.LOGIN)
async def mail_to_register(call: Call, body: MailBody) -> JsonObject:
    """client-server-api#post_matrixclientv3registeremailrequesttoken"""
    _require_mail(call, ThreepidDenied(NO_MAIL))
    await call.parts.registration.flows()  # closed: nobody needs a letter
    return await _ask(call, Purpose.REGISTER, body)


@endpoints.post("/register/msisdn/requestToken", auth=Auth.NONE)
async def phone_to_register(call: Call, body: PhoneBody) -> JsonObject:
    """client-server-api#post_matrixclientv3registermsisdnrequesttoken"""
    raise ThreepidDenied(NO_PHONES)


def _require_mail(call: Call, refusal: MatrixError) -> None:
    if not call.parts.mail_validation.works:
        raise refusal


async def _ask(call: Call, purpose: Purpose, body: MailBody) -> JsonObject:
    request = Request(body.email, body.client_secret, body.send_attempt, body.next_link)
    return {"sid": await ask_for_letter(call, purpose, request)}


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Confirm your address</title>
<h1>Confirm your address</h1>
{content}
"""


@pages.get(PAGE, auth=Auth.NONE)
async def show_confirmation(call: Call) -> Response:
    """What a mail's link leads to. A link alone confirms nothing: programs follow links, too."""
    sid, token = call.required_query("sid"), call.required_query("token")
    proof = await call.parts.mail_validation.awaited(sid, token)
    fields = hidden({"sid": sid, "token": token})
    return _page(
        f"<p>Somebody wants to {proof.purpose.value}: {html.escape(proof.address)}</p>"
        f'<form method="post">{fields}<p><button>It was me: go on</button></p></form>'
    )


@pages.post(PAGE, auth=Auth.NONE, limit=Limit.LOGIN)
async def confirm(call: Call) -> Response:
    """The button on that page. Where a client wants to go on, there is a link: it may be anywhere,
    and nobody is sent there without having seen where."""
    sent = await read_form(call)
    proof = await call.parts.mail_validation.confirm(sent.get("sid", ""), sent.get("token", ""))
    parts = urlsplit(proof.next_link or "")
    onward = ""
    if parts.scheme in ("http", "https") and parts.netloc:
        link, host = html.escape(parts.geturl()), html.escape(parts.netloc)
        onward = f'<p><a rel="noreferrer" href="{link}">Continue at {host}</a></p>'
    return _page(f"<p>Done. You may go back to your client.</p>{onward}")


def _page(content: str) -> Response:
    headers = {
        "Content-Security-Policy": "default-src 'none'; form-action 'self'",
        "Referrer-Policy": "no-referrer",
    }
    text = _PAGE.format(content=content)
    return Response(text=text, content_type="text/html", headers=headers)
