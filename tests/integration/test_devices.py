"""The caller's devices: client-server-api#device-management."""

from __future__ import annotations

import asyncio

from tests.support.client import PASSWORD, Client, refusal
from tests.support.server import RunningServer

AUTH = {"type": "m.login.password", "password": PASSWORD}


async def device_ids(client: Client) -> set[str]:
    return {device["device_id"] for device in (await client.get("/devices"))["devices"]}


async def test_a_user_sees_their_own_devices(server: RunningServer) -> None:
    alice = await server.user("alice")
    await server.user("bob")
    other = await alice.another_device()
    assert await device_ids(alice) == {alice.device_id, other.device_id}


async def test_a_device_tells_when_it_was_seen(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.get("/devices")
    await server.restart()
    device = await server.moved(alice).get(f"/devices/{alice.device_id}")
    assert (device["user_id"], device["last_seen_ip"]) == (alice.user_id, "127.0.0.1")
    assert device["last_seen_ts"] > 1_700_000_000_000


async def test_a_device_is_renamed(server: RunningServer) -> None:
    alice = await server.user("alice")
    path = f"/devices/{alice.device_id}"
    assert await alice.put(path, {"display_name": "Laptop"}) == {}
    assert await alice.put(path, {}) == {}
    assert (await alice.get(path))["display_name"] == "Laptop"
    long = await refusal(alice.put(path, {"display_name": "x" * 101}))
    assert (long.status, long.errcode) == (400, "M_TOO_LARGE")


async def test_anothers_device_is_not_found(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    path = f"/devices/{bob.device_id}"
    for request in (
        alice.get(path),
        alice.put(path, {"display_name": "x"}),
        alice.put(path, {}),
    ):
        refused = await refusal(request)
        assert (refused.status, refused.errcode) == (404, "M_NOT_FOUND")


async def test_a_deleted_device_is_logged_out(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    path = f"/devices/{other.device_id}"
    needed = await refusal(alice.delete(path))
    assert needed.status == 401
    auth = {**AUTH, "session": needed.body["session"]}
    assert await alice.delete(path, {"auth": auth}) == {}
    assert (await refusal(other.get("/devices"))).errcode == "M_UNKNOWN_TOKEN"
    assert await device_ids(alice) == {alice.device_id}


async def test_who_may_delete_one_device_may_not_delete_another(server: RunningServer) -> None:
    alice = await server.user("alice")
    one, two = [await alice.another_device() for _ in range(2)]
    needed = await refusal(alice.delete(f"/devices/{one.device_id}"))
    auth = {**AUTH, "session": needed.body["session"]}
    refused = await refusal(alice.delete(f"/devices/{two.device_id}", {"auth": auth}))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
    await alice.delete(f"/devices/{one.device_id}", {"auth": auth})
    assert await device_ids(alice) == {alice.device_id, two.device_id}


async def test_several_devices_are_deleted_at_once(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    others = [await alice.another_device() for _ in range(2)]
    doomed = [*(other.device_id for other in others), "UNKNOWN", bob.device_id]
    await alice.post("/delete_devices", {"devices": doomed, "auth": AUTH})
    assert await device_ids(alice) == {alice.device_id}
    assert await device_ids(bob) == {bob.device_id}


async def test_bad_lists_of_devices_are_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    missing = await refusal(alice.post("/delete_devices", {}))
    assert (missing.status, missing.errcode) == (400, "M_MISSING_PARAM")
    wrong = await refusal(alice.post("/delete_devices", {"devices": [1]}))
    assert (wrong.status, wrong.errcode) == (400, "M_BAD_JSON")


async def test_guests_delete_no_devices(server: RunningServer) -> None:
    answer = await server.anonymous().post("/register", {}, kind="guest")
    guest = server.anonymous()
    guest.token = answer["access_token"]
    refused = await refusal(guest.delete(f"/devices/{answer['device_id']}"))
    assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_a_user_agent_of_no_text_is_kept_as_far_as_it_can_be(server: RunningServer) -> None:
    alice = await server.user("alice")
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer " + alice.token.encode() + b"\r\n"
        b"User-Agent: \xff\xfe" + b"x" * 3000 + b"\r\n\r\n"
    )
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    await server.restart()  # what is unwritten is written at the end
    device = await server.moved(alice).get(f"/devices/{alice.device_id}")
    assert device["last_seen_ts"] > 1_700_000_000_000
