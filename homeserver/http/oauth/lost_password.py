"""The pages for people who have lost their password: the link in a letter proves who they are.

client-server-api#password-management
"""

from __future__ import annotations

import secrets

from aiohttp.web import Response

from homeserver.errors import MatrixError, MissingParam, NotFound, ThreepidAuthFailed
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.letters import ask_for_letter, use_up_for_password
from homeserver.http.markup import field, hidden, html, link, page, paragraph, problem
from homeserver.http.oauth.browser import Browser, browser_of, sent_form, shows_errors
from homeserver.http.oauth.paths import PREFIX
from homeserver.http.oauth.sign_in import LOST_PASSWORD, checked_onward
from homeserver.http.rate_limits import Limit
from homeserver.services.mail_validation import Purpose, Request

endpoints = Endpoints(prefix=PREFIX, versions=())


@endpoints.get(LOST_PASSWORD, auth=Auth.NONE)
@shows_errors
async def ask_for_address(call: Call) -> Response:
    """client-server-api#password-management"""
    browser = await _browser(call)
    onward = checked_onward(browser, call.query("onward") or "")
    return _address_page(browser, onward)


@endpoints.post(LOST_PASSWORD, auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def send_letter(call: Call) -> Response:
    """client-server-api#post_matrixclientv3accountpasswordemailrequesttoken"""
    browser = await _browser(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    onward = checked_onward(browser, sent.get("onward", ""))
    secret = secrets.token_urlsafe(24)
    try:
        request = Request(sent.get("address", ""), secret, 1)
        sid = await ask_for_letter(call, Purpose.PASSWORD, request)
    except MatrixError as failure:
        return _address_page(browser, onward, failure)
    return _password_page(browser, {"onward": onward, "sid": sid, "client_secret": secret})


@endpoints.post(f"{LOST_PASSWORD}/new", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def set_password(call: Call) -> Response:
    """client-server-api#post_matrixclientv3accountpassword"""
    browser = await _browser(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    onward = checked_onward(browser, sent.get("onward", ""))
    try:
        await _set(call, sent)
    except MatrixError as failure:
        kept = {name: sent.get(name, "") for name in ("onward", "sid", "client_secret")}
        return _password_page(browser, kept, failure)
    go_on = html("<p>{link}</p>", link=link(onward, "Sign in"))
    return page("Done", paragraph("Your password is changed."), go_on)


async def _set(call: Call, sent: dict[str, str]) -> None:
    if sent.get("new", "") != sent.get("again", ""):
        raise MissingParam("The two passwords are not the same")
    sid, secret = sent.get("sid", ""), sent.get("client_secret", "")
    proof = await call.parts.mail_validation.proven(sid, secret, Purpose.PASSWORD)
    user_id = await call.parts.accounts.owner_of_mail(proof.address)
    if user_id is None:
        raise ThreepidAuthFailed("No account has this address any more")
    call.parts.accounts.check_new_password(sent.get("new", ""))
    await use_up_for_password(call, proof)
    await call.parts.accounts.set_password(user_id, sent.get("new", ""))
    # Whoever knew the old password may be logged in: as at /account/password.
    await call.parts.sessions.delete_all_devices(user_id)


async def _browser(call: Call) -> Browser:
    browser = await browser_of(call)
    if not call.parts.mail_validation.works:
        raise NotFound("This server sends no mail: ask its admin for a new password")
    return browser


def _address_page(browser: Browser, onward: str, failure: MatrixError | None = None) -> Response:
    form = browser.form(
        LOST_PASSWORD,
        hidden({"onward": onward}),
        field("address", "The mail address of your account", "email"),
        html("<p><button>Send me a letter</button></p>"),
    )
    why = problem(failure.message if failure else "")
    return browser.shown(
        page("A new password", why, form, status=failure.status if failure else 200)
    )


def _password_page(
    browser: Browser, kept: dict[str, str], failure: MatrixError | None = None
) -> Response:
    """What is shown until the link in the letter was followed, and the password is set."""
    form = browser.form(
        f"{LOST_PASSWORD}/new",
        hidden(kept),
        field("new", "The new password", "password", autocomplete="new-password"),
        field("again", "Once more", "password", autocomplete="new-password"),
        html("<p><button>Set it, and log all my devices out</button></p>"),
    )
    shown = page(
        "A new password",
        problem(failure.message if failure else ""),
        paragraph("Follow the link in the mail that was sent to you, then go on here."),
        form,
        status=failure.status if failure else 200,
    )
    return browser.shown(shown)
