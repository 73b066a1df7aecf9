"""The pages on which people pass a stage that their client doesn't know.

client-server-api#fallback
"""

from __future__ import annotations

import html
from urllib.parse import parse_qs

from aiohttp.web import Response

from homeserver.errors import NotFound
from homeserver.http.body import read_body
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.services.user_interactive import AuthenticationNeeded

endpoints = Endpoints()
MAX_FORM_BYTES = 10_000

# The fields of each stage's form, with their labels and input types.
_FORMS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "m.login.dummy": (),
    "m.login.registration_token": (("token", "Registration token", "text"),),
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
    call.parts.user_interactive.session(session_id)
    return _page(_form(stage))


@endpoints.post("/auth/{stage}/fallback/web", auth=Auth.NONE, limit=Limit.LOGIN)
async def submit_form(call: Call, stage: str) -> Response:
    """client-server-api#fallback"""
    form = _form(stage)
    sent = parse_qs((await read_body(call.request, MAX_FORM_BYTES)).decode(errors="replace"))
    auth = {name: values[0] for name, values in sent.items()}
    try:
        await call.parts.user_interactive.attempt(
            call.required_query("session"), {**auth, "type": stage}
        )
    except AuthenticationNeeded as failure:
        reason = html.escape(str(failure.body().get("error", failure.message)))
        return _page(f"<p>{reason}</p>{form}", status=401)
    return _page(_DONE)


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
