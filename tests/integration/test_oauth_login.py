"""Devices that are logged in by OAuth 2.0: the authorization code grant, refresh, revocation.

client-server-api#oauth-20-api
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

from tests.conftest import StartServer
from tests.support.client import PASSWORD, Client, Refused, refusal, until
from tests.support.oauth import (
    API,
    DEVICE,
    OPTIONS,
    OUTSIDE,
    REDIRECT,
    Browser,
    OAuthClient,
    code_for,
    log_in,
)
from tests.support.server import RunningServer

UNSTABLE = "urn:matrix:org.matrix.msc2967.client:"


async def test_switched_off_nothing_of_it_is_there(server: RunningServer) -> None:
    nobody = server.anonymous()
    paths = ("/_matrix/client/v1/auth_metadata", "/_matrix/oauth2/authorize")
    unstable = "/_matrix/client/unstable/org.matrix.msc2965/"
    for path in (*paths, unstable + "auth_metadata", unstable + "auth_issuer"):
        refused = await refusal(nobody.get(path))
        assert (refused.status, refused.errcode) == (404, "M_UNRECOGNIZED")
    refused = await refusal(nobody.post("/_matrix/oauth2/token"))
    assert (refused.status, refused.errcode) == (404, "M_UNRECOGNIZED")


async def test_the_metadata_names_what_there_is(oauth: RunningServer) -> None:
    nobody = oauth.anonymous()
    metadata = await nobody.get("/_matrix/client/v1/auth_metadata")
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["response_modes_supported"] == ["query", "fragment"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["prompt_values_supported"] == ["create"]
    assert {"authorization_code", "refresh_token"} <= set(metadata["grant_types_supported"])
    unstable = "/_matrix/client/unstable/org.matrix.msc2965"
    assert await nobody.get(f"{unstable}/auth_metadata") == metadata
    issuer = (await nobody.get(f"{unstable}/auth_issuer"))["issuer"]
    assert issuer == metadata["issuer"]
    known = issuer.removeprefix(OUTSIDE) + ".well-known/openid-configuration"
    assert await nobody.get(known) == metadata
    path = issuer.removeprefix(OUTSIDE).rstrip("/")
    assert await nobody.get(f"/.well-known/oauth-authorization-server{path}") == metadata
    for name, url in metadata.items():
        if name.endswith("_endpoint"):
            async with nobody.http.get(oauth.url + url.removeprefix(OUTSIDE)) as response:
                assert response.status != 404, name


async def test_a_user_lets_a_client_log_in(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url())
    page = await browser.sign_in(page, "alice")
    for shown in ("My App", "example.com", client.device_id, "@alice:hs.test"):
        assert shown in page.text

    page = await browser.send(page.form("/authorize"), decision="allow")
    assert page.status == 303
    assert page.location.startswith(REDIRECT + "#")
    assert page.answer["state"] == "the-state"
    status, tokens = await client.redeem(page.answer["code"])
    assert status == 200
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["scope"] == f"{API} {DEVICE}{client.device_id}"

    device = client.logged_in(tokens)
    assert await device.get("/account/whoami") == {
        "user_id": "@alice:hs.test",
        "device_id": client.device_id,
        "is_guest": False,
    }
    named = await device.get(f"/devices/{client.device_id}")
    assert named["display_name"] == "My App"


async def test_the_answer_is_in_the_query_if_nothing_else_is_said(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url(response_mode=None, state=None))
    page = await browser.sign_in(page, "alice")
    page = await browser.send(page.form("/authorize"), decision="allow")
    assert page.location.startswith(REDIRECT + "&code=")
    assert set(page.answer) == {"kept", "code"}


async def test_the_names_of_before_the_specification_do_too(oauth: RunningServer) -> None:
    client = OAuthClient(oauth)
    await client.register()
    scope = f"openid {UNSTABLE}api:* {UNSTABLE}device:{client.device_id}"
    status, tokens = await client.redeem(
        await code_for(client, "alice", Browser(oauth), scope=scope)
    )
    assert status == 200
    assert tokens["scope"] == scope.removeprefix("openid ")
    whoami = await client.logged_in(tokens).get("/account/whoami")
    assert whoami["device_id"] == client.device_id


async def test_a_user_refuses(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url())
    page = await browser.sign_in(page, "alice")
    page = await browser.send(page.form("/authorize"), decision="deny")
    assert page.location.startswith(REDIRECT + "#")
    assert (page.answer["error"], page.answer["state"]) == ("access_denied", "the-state")


async def test_nobody_is_sent_to_an_address_that_was_not_registered(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    for wrong in (
        {"redirect_uri": "https://app.example.com/other"},
        {"redirect_uri": REDIRECT + "&more=1"},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": None},
    ):
        page = await browser.open(client.authorization_url(**wrong))
        assert (page.status, page.location) == (400, ""), wrong
        assert page.headers["Content-Type"].startswith("text/html")


async def test_a_wrong_request_leads_back_to_its_client_but_not_by_itself(
    oauth: RunningServer,
) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    device = DEVICE + client.device_id
    for error, wrong in (
        ("invalid_request", {"code_challenge": None}),
        ("invalid_request", {"code_challenge_method": None}),
        ("invalid_request", {"code_challenge_method": "plain"}),
        ("invalid_request", {"code_challenge": "short"}),
        ("invalid_request", {"response_mode": "form_post"}),
        ("unsupported_response_type", {"response_type": "token"}),
        ("login_required", {"prompt": "none"}),
        ("invalid_scope", {"scope": None}),
        ("invalid_scope", {"scope": API}),
        ("invalid_scope", {"scope": device}),
        ("invalid_scope", {"scope": f"{API} {device} {device}2"}),
        ("invalid_scope", {"scope": f'{API} {DEVICE}a"b'}),
    ):
        page = await browser.open(client.authorization_url(**wrong))
        assert (page.status, page.location) == (400, ""), wrong
        [back] = page.links
        assert back.startswith(REDIRECT), wrong
        answer = dict(parse_qsl(urlsplit(back).fragment or urlsplit(back).query))
        assert (answer["error"], answer["state"]) == (error, "the-state"), wrong


async def test_a_parameter_comes_once(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url() + "&client_id=another")
    assert (page.status, page.location) == (400, "")


async def test_a_code_is_for_who_asked_for_it(oauth: RunningServer) -> None:
    client, other = OAuthClient(oauth), OAuthClient(oauth)
    await client.register()
    await other.register(client_name="Another App")
    assert other.client_id != client.client_id
    code = await code_for(client, "alice", Browser(oauth))
    for wrong in (
        {"client_id": other.client_id},
        {"redirect_uri": "https://app.example.com/other"},
        {"code_verifier": other.verifier},
        {"code_verifier": ""},
    ):
        status, answer = await client.redeem(code, **wrong)
        assert (status, answer["error"]) == (400, "invalid_grant")
    status, answer = await client.redeem("hsc_unknown")
    assert (status, answer["error"]) == (400, "invalid_grant")
    status, answer = await client.redeem(code, client_id="nobody")
    assert (status, answer["error"]) == (401, "invalid_client")
    status, answer = await client.redeem(code, grant_type="password")
    assert (status, answer["error"]) == (400, "unsupported_grant_type")
    assert (await client.redeem(code))[0] == 200


async def test_a_code_that_comes_again_ends_what_it_gave(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    code = await code_for(client, "alice", browser)
    _, tokens = await client.redeem(code)
    device = client.logged_in(tokens)
    await device.get("/account/whoami")

    status, answer = await client.redeem(code)
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    status, answer = await client.refresh(tokens["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_a_code_that_comes_twice_at_once_gives_nothing(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    code = await code_for(client, "alice", browser)
    answers = await asyncio.gather(*(client.redeem(code) for _ in range(3)))
    for status, answer in answers:
        if status == 200:
            device = client.logged_in(answer)
            assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    alice = await oauth.anonymous().login("alice")
    known = [d["device_id"] for d in (await alice.get("/devices"))["devices"]]
    assert client.device_id not in known


async def test_a_device_is_taken_over_and_its_tokens_end(oauth: RunningServer) -> None:
    old = await oauth.anonymous().login("alice")
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    client.device_id = old.device_id
    page = await browser.sign_in(await browser.open(client.authorization_url()), "alice")
    assert "takes over" in page.text
    page = await browser.send(page.form("/authorize"), decision="allow")
    status, tokens = await client.redeem(page.answer["code"])
    assert status == 200
    assert (await refusal(old.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    whoami = await client.logged_in(tokens).get("/account/whoami")
    assert whoami["device_id"] == old.device_id


async def test_tokens_are_refreshed_and_a_lost_answer_is_asked_for_again(
    oauth: RunningServer,
) -> None:
    client, device, first = await log_in(oauth, "alice")
    status, lost = await client.refresh(first["refresh_token"])
    assert status == 200
    status, second = await client.refresh(first["refresh_token"])
    assert status == 200
    assert second["refresh_token"] not in (first["refresh_token"], lost["refresh_token"])
    await device.get("/account/whoami")  # the old token is good until the new one is used

    device.token = second["access_token"]
    assert (await device.get("/account/whoami"))["device_id"] == client.device_id
    device.token = first["access_token"]
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"


async def test_a_used_refresh_token_that_comes_again_ends_the_device(oauth: RunningServer) -> None:
    client, device, first = await log_in(oauth, "alice")
    _, second = await client.refresh(first["refresh_token"])
    device.token = second["access_token"]
    await device.get("/account/whoami")

    status, answer = await client.refresh(first["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    status, _ = await client.refresh(second["refresh_token"])
    assert status == 400


async def test_a_refresh_token_is_bound_to_its_client_and_to_its_api(oauth: RunningServer) -> None:
    client, device, tokens = await log_in(oauth, "alice")
    other = OAuthClient(oauth)
    await other.register(client_name="Another App")
    status, answer = await client.refresh(tokens["refresh_token"], client_id=other.client_id)
    assert (status, answer["error"]) == (400, "invalid_grant")
    body = {"refresh_token": tokens["refresh_token"]}
    assert (await refusal(device.post("/refresh", body))).errcode == "M_UNKNOWN_TOKEN"

    legacy = await oauth.anonymous().post(
        "/login",
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "alice"},
            "password": PASSWORD,
            "refresh_token": True,
        },
    )
    status, answer = await client.refresh(legacy["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert (await client.refresh(tokens["refresh_token"]))[0] == 200


async def test_who_asks_too_often_is_not_told_to_log_out(start_server: StartServer) -> None:
    limits = {"enabled": True, "default": {"per_second": 0.001, "burst": 3}}
    client = OAuthClient(await start_server(**OPTIONS, rate_limits=limits))
    await client.register()
    assert [(await client.refresh("unknown"))[0] for _ in range(2)] == [400, 400]
    # A status of 4xx means to a client that its session is over, to some any JSON with an error.
    async with client.http.post(client.here("token"), data={}) as response:
        assert (response.status, response.content_type) == (503, "text/plain")
        assert int(response.headers["Retry-After"]) > 0
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_an_expired_token_is_a_soft_logout(start_server: StartServer) -> None:
    oauth = await start_server(**OPTIONS, sessions={"access_token_lifetime": 1})
    await oauth.user("alice")
    client, device, tokens = await log_in(oauth, "alice")

    async def expired() -> bool:
        try:
            await device.get("/account/whoami")
        except Refused as refused:
            assert (refused.errcode, refused.body["soft_logout"]) == ("M_UNKNOWN_TOKEN", True)
            return True
        return False

    await until(expired)
    status, fresh = await client.refresh(tokens["refresh_token"])
    assert status == 200
    assert (await client.logged_in(fresh).get("/account/whoami"))["device_id"] == device.device_id


async def test_revoking_either_token_ends_the_device(oauth: RunningServer) -> None:
    for kind in ("access_token", "refresh_token"):
        client, device, tokens = await log_in(oauth, "alice")
        hint = {"token_type_hint": kind, "client_id": client.client_id}
        assert await client.post("revocation", token=tokens[kind], **hint) == (200, {})
        assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
        assert (await client.refresh(tokens["refresh_token"]))[0] == 400
        alice = await oauth.anonymous().login("alice")
        known = [d["device_id"] for d in (await alice.get("/devices"))["devices"]]
        assert client.device_id not in known


async def test_revoking_needs_no_client_and_knows_no_unknown_token(oauth: RunningServer) -> None:
    client, device, tokens = await log_in(oauth, "alice")
    assert await client.post("revocation", token="hsa_unknown") == (200, {})
    status, answer = await client.post("revocation")
    assert (status, answer["error"]) == (400, "invalid_request")
    assert await client.post("revocation", token=tokens["access_token"]) == (200, {})
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"


async def test_logging_out_as_ever_ends_the_device_too(oauth: RunningServer) -> None:
    client, device, tokens = await log_in(oauth, "alice")
    await device.post("/logout")
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    assert (await client.refresh(tokens["refresh_token"]))[0] == 400


async def test_what_needs_a_password_is_not_for_these_devices(oauth: RunningServer) -> None:
    _, device, _ = await log_in(oauth, "alice")
    for request in (
        device.delete(f"/devices/{device.device_id}", {}),
        device.post("/delete_devices", {"devices": [device.device_id]}),
        device.post("/account/password", {"new_password": "another"}),
        device.post("/account/deactivate", {}),
        device.post("/account/3pid/add", {"sid": "1", "client_secret": "s"}),
        device.post("/_matrix/client/v1/login/get_token", {}),
    ):
        refused = await refusal(request)
        assert (refused.status, refused.errcode) == (404, "M_UNRECOGNIZED")
    capabilities = (await device.get("/capabilities"))["capabilities"]
    for name in ("m.change_password", "m.3pid_changes", "m.get_login_token"):
        assert capabilities[name] == {"enabled": False}
    by_password = await oauth.anonymous().login("alice")
    capabilities = (await by_password.get("/capabilities"))["capabilities"]
    assert capabilities["m.change_password"] == {"enabled": True}


async def _admin(server: RunningServer, start: Client) -> Client:
    """`start`'s user, who is an admin from now on."""
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await connection.execute(
            "UPDATE accounts SET is_admin = true WHERE user_id = $1", start.user_id
        )
    return await server.anonymous().login(start.user_id)


async def test_a_locked_user_gets_no_tokens_but_can_go_on_afterwards(oauth: RunningServer) -> None:
    admin = await _admin(oauth, await oauth.user("root"))
    client, device, tokens = await log_in(oauth, "alice")
    second, browser = OAuthClient(oauth), Browser(oauth)
    await second.register()
    code = await code_for(second, "alice", browser)
    lock = "/_matrix/client/v1/admin/lock/@alice:hs.test"
    await admin.put(lock, {"locked": True})

    refused = await refusal(device.get("/account/whoami"))
    assert (refused.errcode, refused.body["soft_logout"]) == ("M_USER_LOCKED", True)
    status, answer = await second.redeem(code)
    assert (status, answer["error"]) == (400, "invalid_grant")
    page = await browser.open(second.authorization_url())
    page = await browser.sign_in(page, "alice")  # this browser is no longer signed in
    assert "locked" in page.text
    assert page.status == 403

    await admin.put(lock, {"locked": False})
    assert (await client.refresh(tokens["refresh_token"]))[0] == 200


async def test_with_the_account_its_devices_end(oauth: RunningServer) -> None:
    client, device, tokens = await log_in(oauth, "alice")
    pending, browser = OAuthClient(oauth), Browser(oauth)
    await pending.register()
    code = await code_for(pending, "alice", browser)
    alice = await oauth.anonymous().login("alice")
    auth = {"type": "m.login.password", "password": PASSWORD}
    await alice.post("/account/deactivate", {"auth": auth})
    assert (await refusal(device.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    assert (await client.refresh(tokens["refresh_token"]))[0] == 400
    assert (await pending.redeem(code))[0] == 400
    page = await browser.open(pending.authorization_url())
    page = await browser.sign_in(page, "alice")
    assert "deactivated" in page.text


async def test_devices_stay_logged_in_over_a_restart(oauth: RunningServer) -> None:
    client, device, tokens = await log_in(oauth, "alice")
    await oauth.restart()
    device = oauth.moved(device)
    assert (await device.get("/account/whoami"))["device_id"] == client.device_id
    again = OAuthClient(oauth)
    await again.register()
    assert again.client_id == client.client_id
    assert (await again.refresh(tokens["refresh_token"]))[0] == 200
