"""The pages on which people sign in, make an account, and sign out again.

client-server-api#user-registration
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from aiohttp.web import Response

from homeserver.errors import Forbidden, MatrixError, MissingParam, UserLocked
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import NOTHING, Html, field, hidden, html, link, page, problem
from homeserver.http.oauth.browser import (
    Browser,
    browser_of,
    redirect,
    sent_form,
    shows_errors,
    signed_in_as,
)
from homeserver.http.oauth.paths import PREFIX, local
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.registration import NewAccount
from homeserver.store.accounts import Account

endpoints = Endpoints(prefix=PREFIX, versions=())
_ONWARD = re.compile(r"[!#-;=?-\[\]_a-z~]{1,8000}")
LOST_PASSWORD = "/lost_password"  # noqa: S105 - a path
_TOKEN = "m.login.registration_token"  # noqa: S105 - a stage


async def sign_in_page(
    call: Call, browser: Browser, onward: str, failure: str = "", user: str = ""
) -> Response:
    """The form with which somebody signs in; then they go on to `onward`, a page of ours. `user`
    is who the client expects."""
    sign_in = browser.form(
        "/sign_in",
        hidden({"onward": onward}),
        field("user", "User name", autocomplete="username", autocapitalize="none", value=user),
        field("password", "Password", "password", autocomplete="current-password"),
        html("<p><button>Sign in</button></p>"),
    )
    intro = html("<p>This is <code>{name}</code>.</p>", name=call.parts.config.server_name)
    query = urlencode({"onward": onward})
    others = []
    if call.parts.mail_validation.works:
        lost = link(local(browser.oauth, f"{LOST_PASSWORD}?{query}"), "I have lost my password")
        others.append(html("<p>{link}</p>\n", link=lost))
    if await call.parts.registration.is_possible():
        path = local(browser.oauth, f"/register?{query}")
        others.append(html("<p>New here? {link}.</p>\n", link=link(path, "Make an account")))
    status = 403 if failure else 200
    return browser.shown(page("Sign in", intro, problem(failure), sign_in, *others, status=status))


@endpoints.post("/sign_in", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def sign_in(call: Call) -> Response:
    """The form of `sign_in_page`."""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    onward = checked_onward(browser, sent.get("onward", ""))
    try:
        account = await checked_password(call, sent.get("user", ""), sent.get("password", ""))
    except Forbidden as failure:
        return await sign_in_page(call, browser, onward, failure.message, sent.get("user", ""))
    return signed_in_as(browser.oauth, account).sent_to(onward)


async def checked_password(call: Call, user: str, password: str) -> Account:
    """Raises `Forbidden`, `UserDeactivated`, `UserLocked`, `LimitExceeded`."""
    user_id = await call.parts.accounts.identify(_identifier(user.strip()))
    account = await call.parts.accounts.check_password(user_id, password)
    if account.is_locked:
        raise UserLocked("This account is locked", status=403)
    return account


def _identifier(user: str) -> JsonObject:
    """A user id, its localpart, or a mail address."""
    if "@" in user[1:] and not user.startswith("@"):
        return {"type": "m.id.thirdparty", "medium": "email", "address": user}
    return {"type": "m.id.user", "user": user}


@endpoints.get("/register", auth=Auth.NONE)
@shows_errors
async def register_form(call: Call) -> Response:
    """client-server-api#user-registration"""
    browser = await browser_of(call)
    return await register_page(call, browser, checked_onward(browser, call.query("onward") or ""))


async def register_page(
    call: Call, browser: Browser, onward: str, failure: MatrixError | None = None
) -> Response:
    """The form with which somebody makes an account; then they go on to `onward`."""
    back = html("<p>{link}</p>", link=link(onward, "I have an account"))
    try:
        stages = await _registration_stages(call)
    except Forbidden:
        sorry = problem("Nobody can make an account here by themselves.")
        return browser.shown(page("Make an account", sorry, back, status=403))
    token = field("token", "Registration token") if _TOKEN in stages else NOTHING
    server = html("<p>On <code>{name}</code>.</p>", name=call.parts.config.server_name)
    made = browser.form(
        "/register",
        hidden({"onward": onward}),
        field("user", "User name", autocomplete="username", autocapitalize="none"),
        field("password", "Password", "password", autocomplete="new-password"),
        field("again", "Password, once more", "password", autocomplete="new-password"),
        token,
        html("<p><button>Make the account</button></p>"),
    )
    why = problem(failure.message if failure else "")
    status = failure.status if failure else 200
    return browser.shown(page("Make an account", server, why, made, back, status=status))


@endpoints.post("/register", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def register(call: Call) -> Response:
    """client-server-api#user-registration"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    onward = checked_onward(browser, sent.get("onward", ""))
    call.parts.rate_limits.take(Limit.REGISTRATION, call.address)
    try:
        account = await _made(call, sent)
    except MatrixError as failure:
        return await register_page(call, browser, onward, failure)
    return signed_in_as(browser.oauth, account).sent_to(onward)


async def _made(call: Call, sent: dict[str, str]) -> Account:
    """A new account, as the legacy flows allow it. Raises what they raise."""
    registration = call.parts.registration
    stages = await _registration_stages(call)
    if not sent.get("user") or not sent.get("password"):
        raise MissingParam("An account needs a name and a password")
    if sent["password"] != sent.get("again"):
        raise MissingParam("The two passwords are not the same")
    user_id = registration.user_id_for(sent["user"].strip())
    await registration.check_available(user_id)
    token = sent.get("token", "") if _TOKEN in stages else None
    if token is not None and not await registration.token_is_valid(token):
        raise Forbidden("This registration token is not valid")
    password_hash = await call.parts.accounts.hash_password(sent["password"])
    await registration.create(NewAccount(user_id, password_hash, token=token))
    account = await call.parts.accounts.find(user_id)
    assert account is not None
    return account


async def _registration_stages(call: Call) -> set[str]:
    """What is asked of who makes an account. Raises `Forbidden` if nobody may."""
    return {stage for flow in await call.parts.registration.flows() for stage in flow}


@endpoints.post("/sign_out", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def sign_out(call: Call) -> Response:
    """Not of any client: only of these pages, in this browser."""
    browser = await browser_of(call)
    sent = await sent_form(call, browser)
    browser.oauth.browsers.sign_out(browser.cookie)
    return redirect(checked_onward(browser, sent.get("onward", "")))


def signed_in(browser: Browser, onward: str) -> Html:
    """Who is signed in, and the way out."""
    assert browser.account is not None
    return browser.form(
        "/sign_out",
        hidden({"onward": onward}),
        html(
            "<p>You are <code>{user}</code>. <button>Not you? Sign out</button></p>",
            user=browser.account.user_id,
        ),
    )


def checked_onward(browser: Browser, onward: str) -> str:
    """A page of ours, on which somebody goes on: nobody is sent elsewhere from here."""
    if onward.startswith(local(browser.oauth, "/")) and _ONWARD.fullmatch(onward):
        return onward
    raise MissingParam("This page was opened without what is to be done next")
