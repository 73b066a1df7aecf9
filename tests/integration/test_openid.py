"""Proofs of identity for third parties, and credentials for calls."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from tests.conftest import StartServer
from tests.support.client import refusal
from tests.support.server import RunningServer, settings

USERINFO = "/_matrix/federation/v1/openid/userinfo"


async def test_an_openid_token_tells_a_third_party_who_it_is(server: RunningServer) -> None:
    alice = await server.user("alice")
    answer = await alice.post(f"/user/{alice.user_id}/openid/request_token")
    assert answer["token_type"] == "Bearer"
    assert answer["matrix_server_name"] == "hs.test"
    assert answer["expires_in"] == 3600
    userinfo = await server.anonymous().get(USERINFO, access_token=answer["access_token"])
    assert userinfo == {"sub": alice.user_id}


async def test_an_openid_token_is_no_access_token(server: RunningServer) -> None:
    alice = await server.user("alice")
    answer = await alice.post(f"/user/{alice.user_id}/openid/request_token")
    alice.token = answer["access_token"]
    refused = await refusal(alice.get("/account/whoami"))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_nobody_proves_to_be_another(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    refused = await refusal(alice.post(f"/user/{bob.user_id}/openid/request_token"))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_an_unknown_openid_token_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    refused = await refusal(server.anonymous().get(USERINFO, access_token=alice.token))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
    missing = await refusal(server.anonymous().get(USERINFO))
    assert (missing.status, missing.errcode) == (400, "M_MISSING_PARAM")


async def test_turn_credentials_are_signed_for_the_turn_server(
    database_url: str, tmp_path: Path
) -> None:
    voip = {"turn_uris": ["turn:turn.hs.test"], "turn_shared_secret": "s", "turn_lifetime": 600}
    server = RunningServer(settings(database_url, voip=voip), tmp_path)
    await server.start()
    alice = await server.user("alice")
    answer = await alice.get("/voip/turnServer")
    assert (answer["uris"], answer["ttl"]) == (["turn:turn.hs.test"], 600)
    assert answer["username"].endswith(":@alice:hs.test")
    mac = hmac.new(b"s", answer["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(answer["password"]) == mac
    await server.stop()


async def test_turn_credentials_can_be_the_same_for_all(start_server: StartServer) -> None:
    voip = {"turn_uris": ["turn:turn.hs.test"], "turn_username": "u", "turn_password": "p"}
    server = await start_server(voip=voip)
    expected = {"username": "u", "password": "p", "uris": ["turn:turn.hs.test"], "ttl": 86_400}
    assert await (await server.user("alice")).get("/voip/turnServer") == expected
    guest = server.anonymous()
    guest.token = (await guest.post("/register?kind=guest", {}))["access_token"]
    assert await guest.get("/voip/turnServer") == {}


async def test_without_a_turn_server_there_are_no_credentials(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert await alice.get("/voip/turnServer") == {}
