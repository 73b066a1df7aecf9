"""Devices without a browser log in: the device authorization grant.

client-server-api#device-authorisation-flow
"""

from __future__ import annotations

from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from homeserver.services.oauth import device_codes
from tests.support.client import refusal
from tests.support.oauth import API, DEVICE, METADATA, Browser, OAuthClient
from tests.support.server import RunningServer

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
async def client(oauth: RunningServer) -> OAuthClient:
    """A client that can do nothing else."""
    client = OAuthClient(oauth)
    grants = [DEVICE_CODE, "refresh_token"]
    status, answer = await client.register(grant_types=grants, redirect_uris=[])
    assert status == 201
    assert set(answer["grant_types"]) == set(grants)
    return client


async def start(client: OAuthClient) -> JsonObject:
    scope = f"{API} {DEVICE}{client.device_id}"
    status, answer = await client.post(
        "device_authorization", client_id=client.client_id, scope=scope
    )
    assert status == 200
    return answer


async def poll(client: OAuthClient, device_code: str, **more: str) -> tuple[int, JsonObject]:
    fields = {"grant_type": DEVICE_CODE, "client_id": client.client_id, "device_code": device_code}
    return await client.post("token", **{**fields, **more})


async def error(client: OAuthClient, device_code: str, **more: str) -> str:
    status, answer = await poll(client, device_code, **more)
    assert status == 400
    return str(answer["error"])


async def test_a_device_logs_in_once_its_user_has_allowed_it(
    oauth: RunningServer, client: OAuthClient
) -> None:
    assert DEVICE_CODE in client.metadata["grant_types_supported"]
    started = await start(client)
    assert (started["interval"], started["expires_in"]) == (5, 600)
    code = started["device_code"]
    assert await error(client, code) == "authorization_pending"
    assert await error(client, code) == "slow_down"

    browser = Browser(oauth)
    page = await browser.open(started["verification_uri_complete"])
    page = await browser.sign_in(page, "alice")
    for shown in (started["user_code"], client.device_id, METADATA["client_name"]):
        assert str(shown) in page.text
    form = next(form for form in page.forms if form.buttons)
    page = await browser.send(form, decision="allow")
    assert "logged in now" in page.text

    status, tokens = await poll(client, code)
    assert status == 200
    device = client.logged_in(tokens)
    whoami = await device.get("/account/whoami")
    assert (whoami["user_id"], whoami["device_id"]) == ("@alice:hs.test", client.device_id)
    assert (await client.refresh(tokens["refresh_token"]))[0] == 200

    assert await error(client, code) == "invalid_grant"  # and the device is logged out
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"


async def test_the_code_may_be_typed_in_any_way(oauth: RunningServer, client: OAuthClient) -> None:
    started, browser = await start(client), Browser(oauth)
    page = await browser.sign_in(await browser.open(started["verification_uri"]), "alice")
    form = page.form("/link")
    page = await browser.send(form, user_code="nonsense")
    assert page.status == 404
    typed = started["user_code"].lower().replace("-", " ")
    page = await browser.send(page.form("/link"), user_code=typed)
    form = next(form for form in page.forms if form.buttons)
    assert "logged in now" in (await browser.send(form, decision="allow")).text
    assert (await poll(client, started["device_code"]))[0] == 200


async def test_a_user_refuses_a_device(oauth: RunningServer, client: OAuthClient) -> None:
    started, browser = await start(client), Browser(oauth)
    page = await browser.open(started["verification_uri_complete"])
    page = await browser.sign_in(page, "alice")
    form = next(form for form in page.forms if form.buttons)
    forged = await browser.send(form, decision="allow", form_check="wrong")
    assert forged.status == 403
    await browser.send(form, decision="deny")
    assert await error(client, started["device_code"]) == "access_denied"
    page = await browser.send(form, decision="allow")  # too late
    assert page.status == 404


async def test_who_may_ask_and_for_what(oauth: RunningServer, client: OAuthClient) -> None:
    started = await start(client)
    other = OAuthClient(oauth)
    await other.register()
    scope = f"{API} {DEVICE}X"
    for status, refused, fields in (
        (400, "unauthorized_client", {"client_id": other.client_id, "scope": scope}),
        (401, "invalid_client", {"client_id": "nobody", "scope": scope}),
        (400, "invalid_scope", {"client_id": client.client_id, "scope": API}),
        (400, "invalid_scope", {"client_id": client.client_id}),
    ):
        answer = await client.post("device_authorization", **fields)
        assert (answer[0], answer[1]["error"]) == (status, refused)
    code = started["device_code"]
    assert await error(client, code, client_id=other.client_id) == "invalid_grant"
    assert await error(client, "hsd_unknown") == "invalid_grant"
    page = await Browser(oauth).open(client.authorization_url(redirect_uri="https://example.com/"))
    assert page.status == 400  # nothing to be sent back to


async def test_a_code_that_nobody_needed_expires(
    oauth: RunningServer, client: OAuthClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_codes, "LIFETIME_MS", 0)
    started, browser = await start(client), Browser(oauth)
    assert await error(client, started["device_code"]) == "expired_token"
    page = await browser.open(f"{started['verification_uri']}?user_code={quote('BCDF-GHJK')}")
    page = await browser.sign_in(page, "alice")
    assert page.status == 404
    page = await browser.send(page.form("/link"), user_code=started["user_code"])
    assert page.status == 404
