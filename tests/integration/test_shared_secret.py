"""Registration by shared secret, as Synapse's admin API has it."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

from homeserver.json_types import JsonObject
from tests.support.client import Client, refusal
from tests.support.server import SHARED_SECRET, RunningServer, settings

PATH = "/_synapse/admin/v1/register"


def signed(nonce: str, secret: str = SHARED_SECRET, **more: Any) -> JsonObject:
    """A request as Synapse's own script makes it."""
    body = {"nonce": nonce, "username": "alice", "password": "pass", "admin": False, **more}
    mac = hmac.new(secret.encode(), digestmod=hashlib.sha1)
    mac.update(nonce.encode() + b"\x00" + body["username"].encode() + b"\x00")
    mac.update(body["password"].encode() + b"\x00")
    mac.update(b"admin" if body["admin"] else b"notadmin")
    if "user_type" in body:
        mac.update(b"\x00" + body["user_type"].encode())
    return {**body, "mac": mac.hexdigest()}


async def new_nonce(client: Client) -> str:
    nonce: str = (await client.get(PATH))["nonce"]
    return nonce


async def test_who_knows_the_secret_makes_an_account(server: RunningServer) -> None:
    client = server.anonymous()
    answer = await client.post(PATH, signed(await new_nonce(client)))
    assert answer["user_id"] == "@alice:hs.test"
    client.token = answer["access_token"]
    assert (await client.get("/account/whoami"))["device_id"] == answer["device_id"]
    await server.anonymous().login("alice", "pass")


async def test_the_type_of_a_user_is_signed_too(server: RunningServer) -> None:
    client = server.anonymous()
    body = signed(await new_nonce(client), user_type="bot", admin=True)
    assert (await client.post(PATH, body))["user_id"] == "@alice:hs.test"


async def test_a_nonce_serves_once(server: RunningServer) -> None:
    client = server.anonymous()
    nonce = await new_nonce(client)
    await client.post(PATH, signed(nonce))
    refused = await refusal(client.post(PATH, signed(nonce, username="bob")))
    assert (refused.status, refused.errcode) == (400, "M_UNKNOWN")


async def test_a_wrong_secret_is_refused(server: RunningServer) -> None:
    client = server.anonymous()
    body = signed(await new_nonce(client), secret="guess")
    refused = await refusal(client.post(PATH, body))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_what_was_not_signed_is_refused(server: RunningServer) -> None:
    client = server.anonymous()
    body = {**signed(await new_nonce(client)), "admin": True}
    assert (await refusal(client.post(PATH, body))).status == 403


async def test_a_bad_username_is_refused(server: RunningServer) -> None:
    client = server.anonymous()
    refused = await refusal(client.post(PATH, signed(await new_nonce(client), username="a b")))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_USERNAME")


async def test_without_a_secret_there_is_no_such_registration(
    database_url: str, tmp_path: Path
) -> None:
    options = settings(database_url, registration={"shared_secret": None})
    server = RunningServer(options, tmp_path)
    await server.start()
    refused = await refusal(server.anonymous().get(PATH))
    assert (refused.status, refused.errcode) == (400, "M_UNKNOWN")
    await server.stop()
