"""The pages on which people manage their account, and `m.oauth`.

client-server-api#oauth-20-account-management, client-server-api#oauth-authentication
"""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.conftest import StartServer
from tests.support.client import PASSWORD, Client, Refused, refusal
from tests.support.encryption import CrossSigner, keys_of
from tests.support.oauth import OPTIONS, OUTSIDE, Browser, Page, log_in
from tests.support.server import RunningServer

ACCOUNT = f"{OUTSIDE}/_matrix/oauth2/account"


@pytest.fixture
async def oauth(start_server: StartServer) -> RunningServer:
    return await start_server(**OPTIONS)


@pytest.fixture
async def alice(oauth: RunningServer) -> Client:
    return await oauth.user("alice")


async def opened(browser: Browser, action: str, **more: str) -> Page:
    """The page of an action, signed in as alice."""
    page = await browser.open(f"{ACCOUNT}?{urlencode({'action': f'org.matrix.{action}', **more})}")
    if any(form.action.endswith("/sign_in") for form in page.forms):
        page = await browser.sign_in(page, "alice")
    return page


async def test_every_advertised_action_has_a_page(oauth: RunningServer, alice: Client) -> None:
    metadata = await alice.get("/_matrix/client/v1/auth_metadata")
    assert metadata["account_management_uri"] == ACCOUNT
    browser = Browser(oauth)
    titles = set()
    for action in metadata["account_management_actions_supported"]:
        page = await opened(browser, action.removeprefix("org.matrix."), device_id=alice.device_id)
        assert page.status == 200
        titles.add(page.text.partition("<h1>")[2].partition("</h1>")[0])
    assert len(titles) == 5  # to see a device and to log it out is one page
    assert (await opened(browser, "unknown")).status == 404
    assert "Your devices" in (await opened(browser, "device_view")).text
    assert "sign_out" in (await browser.open(ACCOUNT)).text


async def test_the_name_and_the_picture_change(oauth: RunningServer, alice: Client) -> None:
    await alice.put(f"/profile/{alice.user_id}/avatar_url", {"avatar_url": "mxc://hs.test/cat"})
    browser = Browser(oauth)
    page = await opened(browser, "profile")
    assert "mxc://hs.test/cat" in page.text
    page = await browser.send(page.form("/account/profile"), displayname="Alice & <i>Co</i>")
    assert "Alice &amp; &lt;i&gt;Co&lt;/i&gt;" in page.text
    page = await browser.send(page.form("/account/picture"))
    profile = await alice.get(f"/profile/{alice.user_id}")
    assert profile == {"displayname": "Alice & <i>Co</i>"}
    await browser.send(page.form("/account/profile"), displayname="")
    assert await alice.get(f"/profile/{alice.user_id}") == {}


async def test_the_password_changes_for_who_knows_it(oauth: RunningServer, alice: Client) -> None:
    browser = Browser(oauth)
    page = await opened(browser, "profile")
    form = page.form("/account/password")
    del form.fields["log_out"]  # a box that isn't ticked
    wrong = await browser.send(form, password="wrong", new="new one", again="new one")
    assert wrong.status == 403
    wrong = await browser.send(form, password=PASSWORD, new="new one", again="another")
    assert wrong.status == 400
    page = await browser.send(form, password=PASSWORD, new="new one", again="new one")
    assert page.status == 200
    await alice.get("/account/whoami")  # nobody asked to log the devices out
    again = await oauth.anonymous().login("alice", "new one")

    page = await opened(browser, "profile")  # this browser is still signed in
    form = page.form("/account/password")
    await browser.send(form, password="new one", new="third", again="third", log_out="yes")
    assert (await refusal(again.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"


async def test_devices_are_seen_and_logged_out(oauth: RunningServer, alice: Client) -> None:
    _, device, _ = await log_in(oauth, "alice")
    browser = Browser(oauth)
    page = await opened(browser, "devices_list")
    assert "My App" in page.text
    page = await opened(browser, "device_view", device_id=device.device_id)
    assert device.device_id in page.text
    for name in ("device_delete", "session_end"):  # the old name too
        page = await opened(browser, name, device_id=device.device_id)
        form = page.form("/device_delete")
    forged = await browser.send(form, form_check="wrong")
    assert forged.status == 403
    await device.get("/account/whoami")

    page = await browser.send(form)
    assert "My App" not in page.text
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    await alice.get("/account/whoami")
    assert (await opened(browser, "device_view", device_id=device.device_id)).status == 404


async def test_nobody_logs_others_devices_out(oauth: RunningServer, alice: Client) -> None:
    bob = await oauth.user("bob")
    browser = Browser(oauth)
    assert (await opened(browser, "device_view", device_id=bob.device_id)).status == 404
    page = await opened(browser, "device_view", device_id=alice.device_id)
    await browser.send(page.form("/device_delete"), device_id=bob.device_id)
    await bob.get("/account/whoami")


async def test_an_account_is_deactivated_with_its_password(
    oauth: RunningServer, alice: Client
) -> None:
    browser = Browser(oauth)
    page = await opened(browser, "account_deactivate")
    wrong = await browser.send(page.form("/deactivate"), password="wrong")
    assert wrong.status == 403
    await alice.get("/account/whoami")
    page = await browser.send(page.form("/deactivate"), password=PASSWORD)
    assert page.status == 200
    assert (await refusal(alice.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    page = await browser.open(ACCOUNT)
    assert page.form("/sign_in")
    refused = await refusal(oauth.anonymous().login("alice"))
    assert refused.errcode == "M_USER_DEACTIVATED"


async def test_a_suspended_user_keeps_their_profile(oauth: RunningServer, alice: Client) -> None:
    browser = Browser(oauth)
    page = await opened(browser, "profile")
    assert oauth.app is not None
    async with oauth.app.database.connection() as connection:
        await connection.execute("UPDATE accounts SET is_suspended = true")
    page = await browser.send(page.form("/account/profile"), displayname="New")
    assert page.status == 403
    assert (await alice.get(f"/profile/{alice.user_id}")).get("displayname") != "New"


async def upload(device: Client, keys: CrossSigner, **auth: str) -> Refused | None:
    """How the server refuses new cross-signing keys, if it does."""
    body = {**keys.body(), **({"auth": auth} if auth else {})}
    try:
        await device.post("/keys/device_signing/upload", body)
    except Refused as refused:
        return refused
    return None


async def test_cross_signing_keys_are_replaced_once_the_user_agrees(
    oauth: RunningServer, alice: Client
) -> None:
    _, device, _ = await log_in(oauth, "alice")
    assert await upload(device, CrossSigner(device.user_id)) is None  # the first ones
    keys = CrossSigner(device.user_id)
    needed = await upload(device, keys)
    assert needed is not None
    assert needed.status == 401
    assert {"stages": ["m.oauth"]} in needed.body["flows"]
    url = f"{ACCOUNT}?action=org.matrix.cross_signing_reset"
    assert needed.body["params"]["m.oauth"] == {"url": url}
    session = needed.body["session"]
    fallback = f"{device.url}/_matrix/client/v3/auth/m.oauth/fallback/web?session={session}"
    async with device.http.get(fallback, allow_redirects=False) as response:
        assert response.headers["Location"] == url
    for auth in ({}, {"type": "m.oauth"}, {"type": "m.login.password", "password": PASSWORD}):
        refused = await upload(device, keys, session=session, **auth)
        assert refused is not None
        assert refused.status == 401

    browser = Browser(oauth)
    page = await browser.sign_in(await browser.open(url), "alice")
    wrong = await browser.send(page.form("/cross_signing_reset"), password="wrong")
    assert wrong.status == 403
    assert await upload(device, keys, session=session) is not None
    await browser.send(page.form("/cross_signing_reset"), password=PASSWORD)

    by_password = await upload(alice, keys)  # devices that came by /login prove it as ever
    assert by_password is not None
    assert by_password.body["flows"] == [{"stages": ["m.login.password"]}]
    assert await upload(device, keys, session=session) is None
    assert (await keys_of(alice, alice.user_id))["master"] == keys.key("master")

    again = await upload(device, CrossSigner(device.user_id))  # it held for once
    assert again is not None
    assert again.status == 401
