"""The pages on which people manage their account. client-server-api#oauth-20-account-management"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp.web import Response
from msgspec import Struct

from homeserver.errors import Forbidden, MatrixError, MissingParam, NotFound, UserSuspended
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import NOTHING, Html, field, html, link, page, paragraph, problem
from homeserver.http.oauth.account_devices import device_page, devices_page
from homeserver.http.oauth.browser import (
    Browser,
    browser_of,
    sent_form,
    shows_errors,
    signed_in_as,
)
from homeserver.http.oauth.metadata import ACCOUNT, account_path
from homeserver.http.oauth.paths import PREFIX
from homeserver.http.oauth.sign_in import checked_password, sign_in_page, signed_in
from homeserver.http.rate_limits import Limit
from homeserver.store.accounts import Account

endpoints = Endpoints(prefix=PREFIX, versions=())


@endpoints.get(ACCOUNT, auth=Auth.NONE)
@shows_errors
async def manage_account(call: Call) -> Response:
    """client-server-api#account-management-url-parameters"""
    browser = await browser_of(call)
    action, device_id = call.query("action") or "org.matrix.profile", call.query("device_id") or ""
    if browser.account is None:
        onward = account_path(browser.oauth, action, device_id=device_id)
        return await sign_in_page(call, browser, onward)
    match action:
        case "org.matrix.profile":
            return await _profile_page(call, browser)
        # `session` is what MSC4191 called a device.
        case "org.matrix.devices_list" | "org.matrix.sessions_list":
            return await devices_page(call, browser)
        case (
            "org.matrix.device_view"
            | "org.matrix.session_view"
            | "org.matrix.device_delete"
            | "org.matrix.session_end"
        ):
            # "A `device_id` SHOULD be provided."
            if not device_id:
                return await devices_page(call, browser)
            return await device_page(call, browser, device_id)
        case "org.matrix.account_deactivate":
            return _confirmation_page(browser, _DEACTIVATION)
        case "org.matrix.cross_signing_reset":
            return _confirmation_page(browser, _RESET)
    raise NotFound("There is no page for this")


async def _profile_page(
    call: Call, browser: Browser, failure: MatrixError | None = None
) -> Response:
    account = browser.signed_in
    profile = await call.parts.profiles.get(account.user_id)
    addresses = [t.address for t in await call.parts.accounts.threepids(account.user_id)]
    name = browser.form(
        f"{ACCOUNT}/profile",
        field("displayname", "Your name", value=str(profile.get("displayname", ""))),
        html("<p><button>Change the name</button></p>"),
    )
    password = browser.form(
        f"{ACCOUNT}/password",
        field("password", "Your password", "password", autocomplete="current-password"),
        field("new", "The new one", "password", autocomplete="new-password"),
        field("again", "The new one, once more", "password", autocomplete="new-password"),
        _choice("log_out", "Log all my devices out"),
        html("<p><button>Change the password</button></p>"),
    )
    shown = page(
        "Your account",
        problem(failure.message if failure else ""),
        signed_in(browser, account_path(browser.oauth, "org.matrix.profile")),
        name,
        _picture(browser, profile.get("avatar_url")),
        paragraph(f"Mail addresses: {', '.join(addresses) or 'none'}"),
        html("<h2>Password</h2>\n"),
        password,
        _links(browser),
        status=failure.status if failure else 200,
    )
    return browser.shown(shown)


def _picture(browser: Browser, avatar_url: object) -> Html:
    if not avatar_url:
        return paragraph("You have no picture; your client can set one.")
    return browser.form(
        f"{ACCOUNT}/picture",
        html("<p>Your picture: <code>{url}</code> <button>Remove it</button></p>", url=avatar_url),
    )


def _links(browser: Browser) -> Html:
    devices = link(account_path(browser.oauth, "org.matrix.devices_list"), "Your devices")
    end = link(
        account_path(browser.oauth, "org.matrix.account_deactivate"), "Deactivate your account"
    )
    return html("<p>{devices} · {end}</p>", devices=devices, end=end)


def _choice(name: str, label: str) -> Html:
    return html(
        '<p><label><input type="checkbox" name="{name}" value="yes"> {label}</label></p>',
        name=name,
        label=label,
    )


def _changes_profile(browser: Browser) -> Account:
    account = browser.signed_in
    if account.is_suspended:
        raise UserSuspended("You cannot do this while your account is suspended")
    return account


@endpoints.post(f"{ACCOUNT}/profile", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def change_name(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser)
    account = _changes_profile(browser)
    if "displayname" in sent:
        await call.parts.profiles.set(account.user_id, "displayname", sent["displayname"])
    else:
        await call.parts.profiles.delete(account.user_id, "displayname")
    return browser.sent_to(account_path(browser.oauth, "org.matrix.profile"))


@endpoints.post(f"{ACCOUNT}/picture", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def remove_picture(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""
    browser = await browser_of(call)
    await sent_form(call, browser)
    account = _changes_profile(browser)
    await call.parts.profiles.delete(account.user_id, "avatar_url")
    return browser.sent_to(account_path(browser.oauth, "org.matrix.profile"))


@endpoints.post(f"{ACCOUNT}/password", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def change_password(call: Call) -> Response:
    """What devices that came by OAuth can't do at /account/password."""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_id = browser.signed_in.user_id
    try:
        await checked_password(call, user_id, sent.get("password", ""))
        if sent.get("new", "") != sent.get("again", ""):
            raise MissingParam("The two new passwords are not the same")
        await call.parts.accounts.set_password(user_id, sent.get("new", ""))
    except MatrixError as failure:
        return await _profile_page(call, browser, failure)
    if "log_out" in sent:
        await call.parts.sessions.delete_all_devices(user_id)
    account = await call.parts.accounts.find(user_id)
    assert account is not None
    done = page("Done", paragraph("Your password is changed."), _links(browser))
    return signed_in_as(browser.oauth, account).shown(done)


class _Confirmed(Struct, frozen=True):
    """An action for which the user gives their password once more."""

    action: str
    path: str
    title: str
    warning: str
    button: str
    more: Html = NOTHING


_DEACTIVATION = _Confirmed(
    "org.matrix.account_deactivate",
    f"{ACCOUNT}/deactivate",
    "Deactivate your account?",
    "You leave all rooms, and are logged out everywhere. It can't be undone, and nobody"
    " gets your user name again.",
    "Deactivate my account",
    _choice("erase", "Show my messages to nobody who joins a room later"),
)
_RESET = _Confirmed(
    "org.matrix.cross_signing_reset",
    f"{ACCOUNT}/cross_signing_reset",
    "Reset your digital identity?",
    "Do so only if you have lost all your verified devices and your recovery key. Others"
    " will have to verify you again, and you may lose your old encrypted messages.",
    "Reset it",
)


def _confirmation_page(browser: Browser, asked: _Confirmed, failure: str = "") -> Response:
    shown = page(
        asked.title,
        paragraph(asked.warning),
        problem(failure),
        browser.form(
            asked.path,
            field("password", "Your password", "password", autocomplete="current-password"),
            asked.more,
            html("<p><button>{button}</button></p>", button=asked.button),
        ),
        signed_in(browser, account_path(browser.oauth, asked.action)),
        status=403 if failure else 200,
    )
    return browser.shown(shown)


async def _confirmed(
    call: Call, asked: _Confirmed, act: Callable[[Browser, dict[str, str]], Awaitable[str]]
) -> Response:
    """What is said when `act` has done it, or the page again."""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_id = browser.signed_in.user_id
    try:
        await checked_password(call, user_id, sent.get("password", ""))
    except Forbidden as failure:
        return _confirmation_page(browser, asked, failure.message)
    return page("Done", paragraph(await act(browser, sent)))


@endpoints.post(_DEACTIVATION.path, auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def deactivate(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""

    async def act(browser: Browser, sent: dict[str, str]) -> str:
        await call.parts.accounts.deactivate(browser.signed_in.user_id, "erase" in sent)
        browser.oauth.browsers.sign_out(browser.cookie)
        return "Your account is deactivated."

    return await _confirmed(call, _DEACTIVATION, act)


@endpoints.post(_RESET.path, auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def allow_reset(call: Call) -> Response:
    """client-server-api#oauth-authentication"""

    async def act(browser: Browser, _: dict[str, str]) -> str:
        browser.oauth.resets.allow(browser.signed_in.user_id)
        return "Go back to your client within ten minutes to finish it."

    return await _confirmed(call, _RESET, act)
