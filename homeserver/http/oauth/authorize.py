"""The authorization endpoint: a user allows a client to log in. client-server-api#login-flows

Rules of this file: nothing is remembered of a request, all of it is in the address of the page, and
checked anew with each step; only what names a registered client and one of its redirect URIs is
ever answered there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from aiohttp.web import Response
from msgspec import Struct

from homeserver.errors import NotFound, OAuthError
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import (
    Html,
    html,
    joined,
    link,
    page,
    paragraph,
    problem,
)
from homeserver.http.oauth.browser import (
    Browser,
    browser_of,
    parsed,
    redirect,
    sent_form,
    shows_errors,
)
from homeserver.http.oauth.paths import PREFIX, local
from homeserver.http.oauth.sign_in import register_page, sign_in_page, signed_in
from homeserver.http.rate_limits import Limit
from homeserver.protocol.oauth.clients import AUTHORIZATION_CODE, Metadata
from homeserver.protocol.oauth.requests import (
    AuthorizationRequest,
    Callback,
    Scope,
    authorization_request,
    callback,
)
from homeserver.services.oauth.clients import Client
from homeserver.services.oauth.codes import Allowed
from homeserver.services.oauth.parts import OAuthParts

endpoints = Endpoints(prefix=PREFIX, versions=())

DECISION = html(
    '<p><button name="decision" value="allow">Allow</button>'
    '<button name="decision" value="deny">Cancel</button></p>'
)


class Authorization(Struct, frozen=True):
    """A request that is answered at a redirect URI of its client."""

    client: Client
    callback: Callback
    request: AuthorizationRequest


@endpoints.get("/authorize", auth=Auth.NONE)
@shows_errors
async def authorize(call: Call) -> Response:
    """client-server-api#authorisation-code-flow"""
    browser = await browser_of(call)
    asked = await _authorization(call, browser.oauth)
    if isinstance(asked, Response):
        return asked
    onward = _onward(call, browser.oauth)
    if asked.request.creates:
        # "Servers that support this parameter SHOULD show the account registration UI"
        return await register_page(call, browser, onward)
    if browser.account is None:
        # MSC4198: a user id that the client expects, such as that of a device that is to be
        # logged in again.
        user = (call.query("login_hint") or "").removeprefix("mxid:")
        return await sign_in_page(call, browser, onward, user=user)
    return browser.shown(await _consent_page(call, browser, asked, onward))


@endpoints.post("/authorize", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def decide(call: Call) -> Response:
    """client-server-api#authorisation-code-flow"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser)
    asked = await _authorization(call, browser.oauth)
    if isinstance(asked, Response):
        return asked
    if sent.get("decision") != "allow":
        denied = OAuthError("access_denied", "The user did not allow it")
        return redirect(asked.callback.url(denied.body()))
    if browser.account is None:  # meanwhile signed out
        return await sign_in_page(call, browser, _onward(call, browser.oauth))
    await browser.oauth.clients.is_used(asked.client)
    allowed = Allowed(browser.account.user_id, asked.client.client_id, asked.request.scope)
    code = browser.oauth.codes.issue(
        allowed, asked.callback.redirect_uri, asked.request.code_challenge
    )
    return redirect(asked.callback.url({"code": code}))


async def _authorization(call: Call, oauth: OAuthParts) -> Authorization | Response:
    """The request, or the page that leads back to the client, which is told what is wrong with it.

    Raises OAuthError if there is nobody whom we may tell.
    """
    parameters = parsed(call.request.rel_url.raw_query_string)
    client = await oauth.clients.find(parameters.get("client_id"))
    answered = callback(parameters, _redirect_uri(parameters, client.metadata))
    try:
        if AUTHORIZATION_CODE not in client.metadata.grant_types:
            raise OAuthError("unauthorized_client", "The client did not register for this grant")
        return Authorization(client, answered, authorization_request(parameters))
    except OAuthError as error:
        return _wrong_request(client, answered, error)


def _wrong_request(client: Client, answered: Callback, error: OAuthError) -> Response:
    """Nobody is sent on who hasn't seen where: anybody may register a client, and would have an
    open redirector here (RFC 9700, section 4.11.2)."""
    target = shown_target(answered.redirect_uri)
    back = link(answered.url(error.body()), f"Back to {target}, a client of {client.metadata.host}")
    shown = html("<p>{back}</p>\n", back=back)
    return page("This did not work", problem(error.message), shown, status=400)


def _redirect_uri(parameters: Mapping[str, str], metadata: Metadata) -> str:
    uri = parameters.get("redirect_uri", "")
    if not metadata.allows_redirect(uri):
        raise OAuthError("invalid_request", "The client did not register this redirect_uri")
    return uri


def _onward(call: Call, oauth: OAuthParts) -> str:
    """Where the same request goes on, once the user has an account."""
    parameters = parsed(call.request.rel_url.raw_query_string)
    parameters.pop("prompt", None)
    return local(oauth, f"/authorize?{urlencode(parameters)}")


async def _consent_page(
    call: Call, browser: Browser, asked: Authorization, onward: str
) -> Response:
    decision = browser.form(onward.removeprefix(local(browser.oauth, "")), DECISION)
    redirect_uri = asked.callback.redirect_uri
    return page(
        f"Let {asked.client.metadata.name} use your account?",
        about_client(asked.client.metadata),
        await about_device(call, browser, asked.request.scope),
        html("<p>You will be sent back to <code>{to}</code>.</p>", to=shown_target(redirect_uri)),
        decision,
        signed_in(browser, onward),
        form_target=target_source(redirect_uri),
    )


def about_client(metadata: Metadata) -> Html:
    """Who asks, as far as it is known: the name is what the client says, the host is checked."""
    lines = [
        html(
            "<p><strong>{name}</strong>, a client of {host}, asks to act for you: to read and send"
            " messages, and to do all that you can do.</p>\n",
            name=metadata.name,
            host=link(metadata.client_uri, metadata.host),
        )
    ]
    if metadata.logo_uri:
        lines.append(html("<p>Its logo: {link}</p>", link=link(metadata.logo_uri, "picture")))
    if metadata.tos_uri:
        lines.append(html("<p>{link}</p>", link=link(metadata.tos_uri, "Its terms of service")))
    if metadata.policy_uri:
        lines.append(html("<p>{link}</p>", link=link(metadata.policy_uri, "Its privacy policy")))
    return joined(*lines)


async def about_device(call: Call, browser: Browser, scope: Scope) -> Html:
    """As what it would be logged in."""
    assert browser.account is not None
    try:
        device = await call.parts.devices.find(browser.account.user_id, scope.device_id)
    except NotFound:
        return html("<p>It becomes your new device <code>{id}</code>.</p>\n", id=scope.device_id)
    name = device.display_name or ""
    known = html(
        "<p>It takes over your device <code>{id}</code> {name}, which is logged out where it is"
        " now.</p>\n",
        id=scope.device_id,
        name=name,
    )
    return joined(known, paragraph("Do so only if you log in with the same client again."))


def shown_target(redirect_uri: str) -> str:
    """What people are told of where they are sent."""
    parts = urlsplit(redirect_uri)
    if parts.scheme == "https":
        return parts.netloc
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def target_source(redirect_uri: str) -> str:
    """What a Content-Security-Policy calls the target of a redirect; it has no IPv6 addresses, and
    nothing may be in it that would end it."""
    parts = urlsplit(redirect_uri)
    if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", parts.netloc) is None:
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{parts.netloc}"
