"""Devices without a browser log in. client-server-api#device-authorisation-flow"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp.web import Response

from homeserver.errors import OAuthError
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import field, hidden, html, page, paragraph, problem
from homeserver.http.oauth.authorize import DECISION, about_client, about_device
from homeserver.http.oauth.browser import (
    Browser,
    browser_of,
    read_parameters,
    sent_form,
    shows_errors,
)
from homeserver.http.oauth.paths import PREFIX, local, offered, url
from homeserver.http.oauth.sign_in import sign_in_page, signed_in
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.oauth.clients import DEVICE_CODE
from homeserver.protocol.oauth.requests import requested_scope
from homeserver.services.oauth.device_codes import INTERVAL_SECONDS, LIFETIME_MS, Pending

endpoints = Endpoints(prefix=PREFIX, versions=())


@endpoints.post("/device", auth=Auth.NONE, limit=Limit.LOGIN)
async def authorize_device(call: Call) -> JsonObject:
    """client-server-api#device-authorisation-flow"""
    oauth = offered(call)
    sent = await read_parameters(call)
    client = await oauth.clients.find(sent.get("client_id"))
    if DEVICE_CODE not in client.metadata.grant_types:
        raise OAuthError("unauthorized_client", "The client did not register for this grant")
    started = oauth.device_codes.start(client.client_id, requested_scope(sent.get("scope", "")))
    page_url = url(oauth, "/link")
    return {
        "device_code": started.device_code,
        "user_code": started.user_code,
        "verification_uri": page_url,
        "verification_uri_complete": f"{page_url}?{urlencode({'user_code': started.user_code})}",
        "expires_in": LIFETIME_MS // 1000,
        "interval": INTERVAL_SECONDS,
    }


@endpoints.get("/link", auth=Auth.NONE)
@shows_errors
async def link_device(call: Call) -> Response:
    """client-server-api#device-authorisation-flow"""
    browser = await browser_of(call)
    user_code = call.query("user_code") or ""
    if browser.account is None:
        return await sign_in_page(call, browser, _onward(browser, user_code))
    if not user_code:
        return _code_page(browser)
    call.parts.rate_limits.take(Limit.LOGIN, call.address)
    pending = browser.oauth.device_codes.find(user_code)
    if pending is None:
        return _code_page(browser, "This code is not known, or too old")
    return await _consent_page(call, browser, user_code, pending)


@endpoints.post("/link", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def decide(call: Call) -> Response:
    """client-server-api#device-authorisation-flow"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_code = sent.get("user_code", "")
    if "decision" not in sent or browser.account is None:
        return browser.sent_to(_onward(browser, user_code))
    pending = browser.oauth.device_codes.find(user_code)
    if pending is None:
        return _code_page(browser, "This code is not known, or too old")
    if sent["decision"] != "allow":
        browser.oauth.device_codes.decide(user_code, None)
        return page("Cancelled", paragraph("The device is not logged in."))
    await browser.oauth.clients.is_used(await browser.oauth.clients.find(pending.client_id))
    browser.oauth.device_codes.decide(user_code, browser.account.user_id)
    return page("Done", paragraph("Your device is logged in now. You may close this window."))


def _onward(browser: Browser, user_code: str) -> str:
    query = f"?{urlencode({'user_code': user_code})}" if user_code else ""
    return local(browser.oauth, "/link") + query


def _code_page(browser: Browser, failure: str = "") -> Response:
    form = browser.form(
        "/link",
        field("user_code", "The code that your device shows", autocomplete="off"),
        html("<p><button>Continue</button></p>"),
    )
    status = 404 if failure else 200
    return browser.shown(page("Log a device in", problem(failure), form, status=status))


async def _consent_page(call: Call, browser: Browser, user_code: str, pending: Pending) -> Response:
    client = await browser.oauth.clients.find(pending.client_id)
    shown = page(
        f"Let {client.metadata.name} use your account?",
        html(
            "<p>Go on only if a device in front of you shows the code <code>{code}</code>.</p>",
            code=user_code.upper(),
        ),
        about_client(client.metadata),
        await about_device(call, browser, pending.scope),
        browser.form("/link", hidden({"user_code": user_code}), DECISION),
        signed_in(browser, _onward(browser, user_code)),
    )
    return browser.shown(shown)
