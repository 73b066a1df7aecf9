"""The pages on which people manage their account. client-server-api#oauth-20-account-management"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp.web import Response

from homeserver.errors import Forbidden, MatrixError, MissingParam, NotFound, UserSuspended
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.oauth.account_devices import device_page, devices_page
from homeserver.http.oauth.browser import (
    Browser,
    browser_of,
    sent_form,
    shows_errors,
    signed_in_as,
)
from homeserver.http.oauth.markup import Html, field, html, joined, link, page, paragraph, problem
from homeserver.http.oauth.metadata import ACCOUNT
from homeserver.http.oauth.paths import PREFIX, local
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
        query = urlencode({"action": action, "device_id": device_id})
        return await sign_in_page(call, browser, local(browser.oauth, f"{ACCOUNT}?{query}"))
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
            return _deactivation_page(browser)
        case "org.matrix.cross_signing_reset":
            return _reset_page(browser)
    raise NotFound("There is no page for this")


async def _profile_page(
    call: Call, browser: Browser, failure: MatrixError | None = None
) -> Response:
    account = _account(browser)
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
        signed_in(browser, _path(browser, "org.matrix.profile")),
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
    devices = link(_path(browser, "org.matrix.devices_list"), "Your devices")
    end = link(_path(browser, "org.matrix.account_deactivate"), "Deactivate your account")
    return html("<p>{devices} · {end}</p>", devices=devices, end=end)


def _path(browser: Browser, action: str) -> str:
    return local(browser.oauth, f"{ACCOUNT}?{urlencode({'action': action})}")


def _choice(name: str, label: str) -> Html:
    return html(
        '<p><label><input type="checkbox" name="{name}" value="yes"> {label}</label></p>',
        name=name,
        label=label,
    )


def _account(browser: Browser) -> Account:
    if browser.account is None:
        raise Forbidden("You are not signed in any more: go back and sign in again")
    return browser.account


def _changes_profile(browser: Browser) -> Account:
    account = _account(browser)
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
    return browser.sent_to(_path(browser, "org.matrix.profile"))


@endpoints.post(f"{ACCOUNT}/picture", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def remove_picture(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""
    browser = await browser_of(call)
    await sent_form(call, browser)
    account = _changes_profile(browser)
    await call.parts.profiles.delete(account.user_id, "avatar_url")
    return browser.sent_to(_path(browser, "org.matrix.profile"))


@endpoints.post(f"{ACCOUNT}/password", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def change_password(call: Call) -> Response:
    """What devices that came by OAuth can't do at /account/password."""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_id = _account(browser).user_id
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


def _password_form(browser: Browser, path: str, button: str, *more: Html) -> Html:
    return browser.form(
        f"{ACCOUNT}{path}",
        field("password", "Your password", "password", autocomplete="current-password"),
        joined(*more),
        html("<p><button>{button}</button></p>", button=button),
    )


def _deactivation_page(browser: Browser, failure: str = "") -> Response:
    shown = page(
        "Deactivate your account?",
        paragraph(
            "You leave all rooms, and are logged out everywhere. It can't be undone, and nobody"
            " gets your user name again."
        ),
        problem(failure),
        _password_form(
            browser,
            "/deactivate",
            "Deactivate my account",
            _choice("erase", "Show my messages to nobody who joins a room later"),
        ),
        signed_in(browser, _path(browser, "org.matrix.account_deactivate")),
        status=403 if failure else 200,
    )
    return browser.shown(shown)


@endpoints.post(f"{ACCOUNT}/deactivate", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def deactivate(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_id = _account(browser).user_id
    try:
        await checked_password(call, user_id, sent.get("password", ""))
    except Forbidden as failure:
        return _deactivation_page(browser, failure.message)
    await call.parts.accounts.deactivate(user_id, "erase" in sent)
    browser.oauth.browsers.sign_out(browser.cookie)
    return page("Done", paragraph("Your account is deactivated."))


def _reset_page(browser: Browser, failure: str = "") -> Response:
    shown = page(
        "Reset your digital identity?",
        paragraph(
            "Do so only if you have lost all your verified devices and your recovery key. Others"
            " will have to verify you again, and you may lose your old encrypted messages."
        ),
        problem(failure),
        _password_form(browser, "/cross_signing_reset", "Reset it"),
        signed_in(browser, _path(browser, "org.matrix.cross_signing_reset")),
        status=403 if failure else 200,
    )
    return browser.shown(shown)


@endpoints.post(f"{ACCOUNT}/cross_signing_reset", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def allow_reset(call: Call) -> Response:
    """client-server-api#oauth-authentication"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser, Limit.LOGIN)
    user_id = _account(browser).user_id
    try:
        await checked_password(call, user_id, sent.get("password", ""))
    except Forbidden as failure:
        return _reset_page(browser, failure.message)
    browser.oauth.resets.allow(user_id)
    return page("Done", paragraph("Go back to your client within ten minutes to finish it."))
