"""matrix-js-sdk logs in by OAuth 2.0, with its own functions for it."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.support.client import refusal
from tests.support.js_client import JsClients
from tests.support.oauth import Browser
from tests.support.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("node")]


async def test_the_js_sdk_logs_in_refreshes_and_logs_out(
    start_server: StartServer, js: JsClients
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    listeners = [{"port": port, "resources": ["client"]}]
    server = await start_server(public_baseurl=url, oauth={"enabled": True}, listeners=listeners)
    await server.user("alice")
    redirect = "https://example.com/callback"
    begun = await js.call("oauthBegin", name="app", baseUrl=url, redirectUri=redirect)
    browser = Browser(server)
    page = await browser.sign_in(await browser.open(begun["url"]), "alice")
    page = await browser.send(page.form("/authorize"), decision="allow")
    assert page.answer["state"] == "state"

    first = await js.call("oauthComplete", name="app", code=page.answer["code"])
    assert (first["user_id"], first["device_id"]) == ("@alice:hs.test", begun["deviceId"])
    second = await js.call("oauthRefresh", name="app", refreshToken=first["refresh_token"])
    assert second["device_id"] == begun["deviceId"]
    await js.call("oauthRevoke", name="app", token=second["access_token"])
    device = server.anonymous()
    device.token = second["access_token"]
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"

    started = await js.call("oauthDevice", name="app")
    page = await browser.open(started["url"])
    await browser.send(next(f for f in page.forms if f.buttons), decision="allow")
    third = await js.call("oauthDeviceEnd", name="app")
    assert (third["user_id"], third["device_id"]) == ("@alice:hs.test", begun["deviceId"])

    begun = await js.call(
        "oauthBegin", name="new", baseUrl=url, redirectUri=redirect, prompt="create"
    )
    page = await Browser(server).open(begun["url"])
    assert page.form("/register")
