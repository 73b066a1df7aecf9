"""The pages on which people pass a stage that their client doesn't know.

client-server-api#fallback
"""

from __future__ import annotations

import html
import secrets

from aiohttp.web import Response

from homeserver.errors import NotFound, ThreepidInUse, ThreepidNotFound
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.letters import ask_for_letter, read_form
from homeserver.http.markup import hidden
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.mail_validation import MAIL, Purpose, Request
from homeserver.services.user_interactive import AuthenticationNeeded

endpoints = Endpoints()
OAUTH = "m.oauth"
_PURPOSES = {"POST /account/password": Purpose.PASSWORD, "POST /register": Purpose.REGISTER}

# The fields of each stage's form, with their labels and input types.
_FORMS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "m.login.dummy": (),
    "m.login.registration_token": (("token", "Registration token", "text"),),
    MAIL: (("address", "Mail address", "email"),),
    "m.login.password": (("user", "User name", "text"), ("password", "Password", "password")),
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in</title>
<h1>Sign in</h1>
{content}
"""

# "This page must use the following JavaScript when the authentication has been completed"
_DONE = """<p>Done. You may close this window.</p>
<script>
if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
</script>
"""


@endpoints.get("/auth/{stage}/fallback/web", auth=Auth.NONE)
async def show_form(call: Call, stage: str) -> Response:
    """client-server-api#fallback"""
    session_id = call.required_query("session")
    session = call.parts.user_interactive.session(session_id)
    if stage == OAUTH and [OAUTH] in session.flows:
        stated = call.parts.user_interactive.params(stage)
        return Response(status=303, headers={"Location": stated["url"]})
    return _page(_form(stage))


@endpoints.post("/auth/{stage}/fallback/web", auth=Auth.NONE, limit=Limit.LOGIN)
async def submit_form(call: Call, stage: str) -> Response:
    """client-server-api#fallback"""
    form = _form(stage)
    auth: JsonObject = dict(await read_form(call))
    if stage == MAIL:
        if "address" in auth:
            return _page(await _letter(call, auth["address"]))
        auth = {"threepid_creds": auth}
        form = _mail_form(auth["threepid_creds"])
    try:
        await call.parts.user_interactive.attempt(
            call.required_query("session"), {**auth, "type": stage}
        )
    except AuthenticationNeeded as failure:
        reason = html.escape(str(failure.body().get("error", failure.message)))
        return _page(f"<p>{reason}</p>{form}", status=401)
    return _page(_DONE)


async def _letter(call: Call, address: str) -> str:
    """Send a letter for what the session was begun for; the form to go on with."""
    session = call.parts.user_interactive.session(call.required_query("session"))
    purpose = _PURPOSES.get(session.operation.name)
    if purpose is None or not call.parts.mail_validation.works:
        raise NotFound("There is no page for this kind of authentication")
    secret = secrets.token_urlsafe(24)
    try:
        sid = await ask_for_letter(call, purpose, Request(address, secret, 1))
    except ThreepidNotFound:
        return f"<p>No account has this address.</p>{_form(MAIL)}"
    except ThreepidInUse:
        return f"<p>Another account has this address.</p>{_form(MAIL)}"
    return _mail_form({"sid": sid, "client_secret": secret})


def _mail_form(proof: JsonObject) -> str:
    """What is shown until the link in the letter was followed."""
    fields = hidden({name: str(proof.get(name, "")) for name in ("sid", "client_secret")})
    text = "<p>Follow the link in the mail that was sent to you, then continue here.</p>"
    return f'{text}<form method="post">{fields}<p><button>Continue</button></p></form>'


def _form(stage: str) -> str:
    """The form of a stage, which is sent to where it came from. Raises `NotFound`."""
    if stage not in _FORMS:
        raise NotFound("There is no page for this kind of authentication")
    inputs = "".join(
        f'<p><label>{label} <input type="{kind}" name="{name}" required></label></p>'
        for name, label, kind in _FORMS[stage]
    )
    return f'<form method="post">{inputs}<p><button>Continue</button></p></form>'


def _page(content: str, status: int = 200) -> Response:
    policy = "default-src 'none'; script-src 'unsafe-inline'; form-action 'self'"
    return Response(
        text=_PAGE.format(content=content),
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": policy},
    )
