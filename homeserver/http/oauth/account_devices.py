"""The pages on which people see their devices and log them out.

client-server-api#account-management-url-actions
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp.web import Response

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.markup import Html, hidden, html, joined, link, page
from homeserver.http.oauth.browser import Browser, browser_of, sent_form, shows_errors
from homeserver.http.oauth.metadata import ACCOUNT, account_path
from homeserver.http.oauth.paths import PREFIX
from homeserver.http.rate_limits import Limit
from homeserver.store.devices import Device

endpoints = Endpoints(prefix=PREFIX, versions=())


async def devices_page(call: Call, browser: Browser) -> Response:
    """All devices of who is signed in."""
    oauth = browser.oauth
    devices = await call.parts.devices.of_user(browser.signed_in.user_id)
    lines = (
        html(
            "<li>{link}{seen}</li>\n",
            link=link(
                account_path(oauth, "org.matrix.device_view", device_id=device.device_id),
                _name(device),
            ),
            seen=_seen(device),
        )
        for device in devices
    )
    back = link(account_path(oauth, "org.matrix.profile"), "Your account")
    shown = page("Your devices", html("<ul>{l}</ul>", l=joined(*lines)), html("<p>{b}</p>", b=back))
    return browser.shown(shown)


async def device_page(call: Call, browser: Browser, device_id: str) -> Response:
    """One of them, with a button that logs it out. Raises `NotFound`."""
    device = await call.parts.devices.find(browser.signed_in.user_id, device_id)
    end = browser.form(
        f"{ACCOUNT}/device_delete",
        hidden({"device_id": device.device_id}),
        html("<p><button>Log this device out</button></p>"),
    )
    back = link(account_path(browser.oauth, "org.matrix.devices_list"), "All your devices")
    about = html("<p>Device <code>{id}</code>{seen}.</p>", id=device.device_id, seen=_seen(device))
    return browser.shown(page(_name(device), about, end, html("<p>{b}</p>", b=back)))


@endpoints.post(f"{ACCOUNT}/device_delete", auth=Auth.NONE, limit=Limit.NONE)
@shows_errors
async def delete_device(call: Call) -> Response:
    """client-server-api#account-management-url-actions"""
    browser = await browser_of(call)
    sent = await sent_form(call, browser)
    await call.parts.sessions.delete_devices(browser.signed_in.user_id, [sent.get("device_id", "")])
    return browser.sent_to(account_path(browser.oauth, "org.matrix.devices_list"))


def _name(device: Device) -> str:
    return device.display_name or device.device_id


def _seen(device: Device) -> Html:
    if device.last_seen_at is None:
        return html("")
    at = datetime.fromtimestamp(device.last_seen_at / 1000, UTC)
    return html(
        ", last seen {at} UTC from {ip}", at=f"{at:%Y-%m-%d %H:%M}", ip=device.last_seen_ip or "?"
    )
