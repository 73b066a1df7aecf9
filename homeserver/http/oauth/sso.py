"""Clients of the legacy API whose user signs in on our pages all the same: `m.login.sso`.

client-server-api#oauth-20-aware-clients, client-server-api#client-login-via-sso
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp.web import Response

from homeserver.errors import InvalidParam, MissingParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import hidden, html, page
from homeserver.http.oauth.authorize import shown_target, target_source
from homeserver.http.oauth.browser import Browser, browser_of, redirect, sent_form, shows_errors
from homeserver.http.oauth.paths import PREFIX, local, offered, url
from homeserver.http.oauth.sign_in import register_page, sign_in_page, signed_in
from homeserver.http.rate_limits import Limit
from homeserver.services.login_tokens import SSO_LIFETIME_MS

endpoints = Endpoints()
pages = Endpoints(prefix=PREFIX, versions=())

_URL = re.compile(r"[!#-;=?-\[\]_a-z~]{1,2000}")
# What a browser would take for a page of its own making.
_NO_TARGETS = frozenset({"javascript", "data", "vbscript", "blob", "file", "about", "view-source"})


@endpoints.get("/login/sso/redirect", auth=Auth.NONE)
async def sso_redirect(call: Call) -> Response:
    """client-server-api#get_matrixclientv3loginssoredirect"""
    oauth = offered(call)
    query = {
        "redirectUrl": call.required_query("redirectUrl"),
        # The second is its name before it was specified (MSC3824), with values in capitals.
        "action": call.query("action") or call.query("org.matrix.msc3824.action") or "login",
    }
    answer = redirect(url(oauth, f"/sso?{urlencode(query)}"))
    answer.set_status(302)
    return answer


@pages.get("/sso", auth=Auth.NONE)
@shows_errors
async def sign_in_for_client(call: Call) -> Response:
    """client-server-api#client-login-via-sso"""
    browser = await browser_of(call)
    target = checked_target(call.query("redirectUrl") or "")
    onward = _onward(browser, target)
    if (call.query("action") or "").lower() == "register":
        return await register_page(call, browser, onward)
    if browser.account is None:
        return await sign_in_page(call, browser, onward)
    return browser.shown(_confirmation(browser, target, onward))


def _onward(browser: Browser, target: str) -> str:
    return local(browser.oauth, f"/sso?{urlencode({'redirectUrl': target})}")


def _confirmation(browser: Browser, target: str, onward: str) -> Response:
    """Homeservers "SHOULD confirm with the user that they are happy to grant access to their matrix
    account to the site named in the `redirectUrl`"."""
    return page(
        "Log in?",
        html(
            "<p>The client at <code>{to}</code> will be able to act for you: to read and send"
            " messages, and to do all that you can do.</p>",
            to=shown_target(target),
        ),
        browser.form(
            "/sso", hidden({"redirectUrl": target}), html("<p><button>Continue</button></p>")
        ),
        signed_in(browser, onward),
        form_target=target_source(target),
    )


@pages.post("/sso", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def continue_to_client(call: Call) -> Response:
    """client-server-api#handling-the-callback-from-the-authentication-server"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser)
    target = checked_target(sent.get("redirectUrl", ""))
    if browser.account is None:
        return await sign_in_page(call, browser, _onward(browser, target))
    token = call.parts.login_tokens.issue(browser.account.user_id, SSO_LIFETIME_MS)
    return redirect(with_token(target, token))


def checked_target(target: str) -> str:
    """Raises `MissingParam`, `InvalidParam` for what isn't the address of a client."""
    if not target:
        raise MissingParam("The query parameter 'redirectUrl' is missing")
    try:
        parts = urlsplit(target)
    except ValueError:
        raise InvalidParam("`redirectUrl` is not a URL") from None
    is_web = parts.scheme in ("http", "https")
    if (
        _URL.fullmatch(target) is None
        or not parts.scheme
        or parts.scheme in _NO_TARGETS
        or "@" in parts.netloc
        or (is_web and not parts.hostname)
    ):
        raise InvalidParam("`redirectUrl` is not a URL to which a client can be sent back")
    return target


def with_token(target: str, token: str) -> str:
    """The target with the token. "If it already includes one or more `loginToken` parameters, they
    should be removed before adding the new one." """
    before, hash_sign, fragment = target.partition("#")
    start, _, query = before.partition("?")
    kept = [p for p in parse_qsl(query, keep_blank_values=True) if p[0] != "loginToken"]
    return f"{start}?{urlencode([*kept, ('loginToken', token)])}{hash_sign}{fragment}"
