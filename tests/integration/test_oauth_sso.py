"""Clients of the legacy API, by way of the pages: `m.login.sso`.

client-server-api#oauth-20-aware-clients
"""

from __future__ import annotations

from urllib.parse import urlencode

from homeserver.http.oauth.sso import with_token
from tests.support.client import Client, refusal
from tests.support.oauth import OUTSIDE, Browser, Page
from tests.support.server import RunningServer

TARGET = "https://app.example.com/?a=b&loginToken=old"


async def opened(browser: Browser, target: str = TARGET, **more: str) -> Page:
    query = urlencode({"redirectUrl": target, **more})
    return await browser.open(f"{OUTSIDE}/_matrix/client/v3/login/sso/redirect?{query}")


async def log_in(server: RunningServer, page: Page) -> Client:
    """With the token that is in the address of the client."""
    client = server.anonymous()
    body = {"type": "m.login.token", "token": page.answer["loginToken"]}
    client.token = (await client.post("/login", body))["access_token"]
    return client


async def test_the_flow_is_there_with_oauth_only(
    oauth: RunningServer, server: RunningServer
) -> None:
    flows = (await oauth.anonymous().get("/login"))["flows"]
    sso = next(flow for flow in flows if flow["type"] == "m.login.sso")
    assert sso["oauth_aware_preferred"] is True
    assert {"m.login.password"} <= {flow["type"] for flow in flows}
    flows = (await server.anonymous().get("/login"))["flows"]
    assert "m.login.sso" not in {flow["type"] for flow in flows}
    missing = await refusal(server.anonymous().get("/login/sso/redirect", redirectUrl=TARGET))
    assert (missing.status, missing.errcode) == (404, "M_UNRECOGNIZED")


async def test_a_client_is_logged_in(oauth: RunningServer) -> None:
    browser = Browser(oauth)
    page = await browser.sign_in(await opened(browser), "alice")
    assert "app.example.com" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert policy.endswith("form-action 'self' https://app.example.com")
    page = await browser.send(page.form("/sso"))
    assert page.location.startswith("https://app.example.com/?a=b&loginToken=")
    assert page.location.count("loginToken") == 1
    device = await log_in(oauth, page)
    assert (await device.get("/account/whoami"))["user_id"] == "@alice:hs.test"
    capabilities = (await device.get("/capabilities"))["capabilities"]
    assert capabilities["m.change_password"]["enabled"]  # it came by the legacy API


async def test_an_account_is_made_for_a_client(oauth: RunningServer) -> None:
    browser = Browser(oauth)
    page = await opened(browser, **{"org.matrix.msc3824.action": "REGISTER"})
    assert page.form("/register")
    page = await opened(browser, action="register")
    page = await browser.send(page.form("/register"), user="bob", password="b", again="b")
    page = await browser.send(page.form("/sso"))
    device = await log_in(oauth, page)
    assert (await device.get("/account/whoami"))["user_id"] == "@bob:hs.test"


async def test_nobody_is_sent_to_what_is_no_client(oauth: RunningServer) -> None:
    browser = Browser(oauth)
    await browser.sign_in(await opened(browser), "alice")
    for target in (
        "javascript:alert(1)",
        "data:text/html,hello",
        "https://trusted.example@evil.example/",
        "https:///path",
        "https://a b/",
        'https://a.example/"',
        "//evil.example/",
        "/path",
        "https://[evil",
        "",
    ):
        page = await opened(browser, target)
        assert page.status == 400, target
        assert not any(form.action.endswith("/sso") for form in page.forms)
    page = await opened(browser, "https://a.example;script-src/")
    assert page.headers["Content-Security-Policy"].endswith("form-action 'self' https:")
    forged = await browser.send(page.form("/sso"), form_check="wrong")
    assert (forged.status, forged.location) == (403, "")
    page = await opened(browser, "element://connect")
    page = await browser.send(page.form("/sso"))
    assert page.location.startswith("element://connect?loginToken=")


def test_the_token_stands_before_a_fragment() -> None:
    assert with_token("https://a.b/c?d=e#/f?g", "t") == "https://a.b/c?d=e&loginToken=t#/f?g"
    assert with_token("a.b:/c", "t") == "a.b:/c?loginToken=t"
