"""Devices, keys and to-device messages between servers: as within one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.stream import remote_device_lists
from tests.federation.conftest import StartServers
from tests.federation.test_hosted_rooms import device_list_updates
from tests.federation.test_receiving import joined_room
from tests.support.client import Client
from tests.support.encryption import CrossSigner, Device, claim, keys_of, one_time_keys
from tests.support.peer import Peer
from tests.support.server import RunningServer

SIGN = "/keys/signatures/upload"


@pytest.fixture
async def servers(start_servers: StartServers) -> list[RunningServer]:
    return await start_servers("one", "two")


async def alice_and_bob(servers: list[RunningServer]) -> tuple[Client, Client, str]:
    """Of two servers, in one room."""
    one, two = servers
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await alice.sync()
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": one.config.server_name})
    await alice.sync_until(lambda answer: bob.user_id in changed(answer))
    await bob.sync()
    return alice, bob, room_id


def changed(answer: Any) -> list[str]:
    found: list[str] = answer.get("device_lists", {}).get("changed", [])
    return found


def bare_keys(user_id: str, device_id: str) -> JsonObject:
    """A device's keys, of which there are none."""
    empty: JsonObject = {"algorithms": [], "keys": {}, "signatures": {}}
    return {"user_id": user_id, "device_id": device_id, **empty}


async def until_changed(client: Client, user_id: str) -> None:
    await client.sync_until(lambda answer: user_id in changed(answer))


async def until_devices(client: Client, of: Client, expected: set[str]) -> None:
    """Each change is told; several may be told at once, or one after another."""
    while set((await keys_of(client, of.user_id))["devices"]) != expected:
        await until_changed(client, of.user_id)


async def test_keys_are_found_claimed_and_messages_delivered(
    servers: list[RunningServer],
) -> None:
    alice, bob = await servers[0].user("alice"), await servers[1].user("bob")
    device = Device(bob)
    keys = device.keys()
    await bob.post("/keys/upload", {"device_keys": keys, "one_time_keys": one_time_keys("A")})

    assert (await keys_of(alice, bob.user_id))["devices"] == {bob.device_id: keys}
    assert [await claim(alice, bob) for _ in range(2)] == ["A", None]
    messages = {bob.user_id: {bob.device_id: {"n": 1}, "*": {"n": 2}}}
    await alice.put("/sendToDevice/test/1", {"messages": messages})
    events = await bob.sync_until(lambda answer: answer.get("to_device", {}).get("events"))
    assert events == [{"type": "test", "sender": alice.user_id, "content": {"n": 1}}]


async def test_a_change_of_keys_is_told_to_the_other_server(
    servers: list[RunningServer],
) -> None:
    alice, bob, _ = await alice_and_bob(servers)
    await keys_of(alice, bob.user_id)
    keys = Device(bob).keys()

    await bob.post("/keys/upload", {"device_keys": keys})
    await until_changed(alice, bob.user_id)
    assert (await keys_of(alice, bob.user_id))["devices"] == {bob.device_id: keys}

    phone = await bob.another_device()
    await Device(phone).upload()
    await until_devices(alice, bob, {bob.device_id, phone.device_id})
    await phone.post("/logout")
    await until_devices(alice, bob, {bob.device_id})
    assert (await keys_of(alice, bob.user_id))["devices"] == {bob.device_id: keys}


@pytest.mark.parametrize("told", [False, True])
async def test_other_servers_hear_of_device_names_if_the_server_tells_them(
    start_servers: StartServers, told: bool
) -> None:
    servers = await start_servers("one", "two", federation={"device_names": told})
    alice = await servers[0].user("alice")
    await Device(alice).upload()
    await alice.put(f"/devices/{alice.device_id}", {"display_name": "Phone"})
    bob = await servers[1].user("bob")
    devices = (await keys_of(bob, alice.user_id))["devices"]
    assert ("Phone" in str(devices[alice.device_id])) is told


async def test_a_device_without_keys_is_told_as_there(server: RunningServer, peer: Peer) -> None:
    alice, _ = await joined_room(server, peer)
    updates = device_list_updates(peer)
    phone = await alice.another_device()
    update = await asyncio.wait_for(updates.get(), 10)
    assert (update["user_id"], update["device_id"]) == (alice.user_id, phone.device_id)
    assert not {"deleted", "keys"} & set(update)
    await phone.post("/logout")
    assert (await asyncio.wait_for(updates.get(), 10))["deleted"] is True


async def test_devices_that_change_while_they_are_fetched_are_fetched_again(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    update = {"user_id": room.user_id, "device_id": "NEW", "stream_id": 2, "prev_id": [1]}
    answers = iter(["OLD", "NEW"])

    async def devices(request: web.Request) -> web.StreamResponse:
        name = next(answers)
        if name == "OLD":
            edu = {"edu_type": "m.device_list_update", "content": update}
            body = {"origin": peer.server_name, "origin_server_ts": 1, "pdus": [], "edus": [edu]}
            status, _ = await peer.request("PUT", "/_matrix/federation/v1/send/change", body)
            assert status == 200
        listed = [{"device_id": name, "keys": bare_keys(room.user_id, name)}]
        return web.json_response({"user_id": room.user_id, "stream_id": 2, "devices": listed})

    peer.answer("GET", "/_matrix/federation/v1/user/devices/", devices)
    assert list((await keys_of(alice, room.user_id))["devices"]) == ["NEW"]


async def test_what_is_known_is_answered_while_the_other_server_is_down(
    servers: list[RunningServer],
) -> None:
    alice, bob, _ = await alice_and_bob(servers)
    await Device(bob).upload()
    await until_changed(alice, bob.user_id)
    before = await keys_of(alice, bob.user_id)
    await servers[1].stop()

    assert await keys_of(alice, bob.user_id) == before
    stranger = f"@stranger:{servers[1].config.server_name}"
    asked: dict[str, list[str]] = {stranger: [], bob.user_id: []}
    answer = await alice.post("/keys/query", {"device_keys": asked, "timeout": 3000})
    assert list(answer["failures"]) == [servers[1].config.server_name]
    assert list(answer["device_keys"]) == [bob.user_id]


async def test_cross_signing_works_between_servers(servers: list[RunningServer]) -> None:
    alice, bob, _ = await alice_and_bob(servers)
    mine, theirs = CrossSigner(alice.user_id), CrossSigner(bob.user_id)
    await alice.post("/keys/device_signing/upload", mine.body())
    await bob.post("/keys/device_signing/upload", theirs.body())
    await until_changed(alice, bob.user_id)
    found = await keys_of(alice, bob.user_id)
    assert found["master"] == theirs.key("master")
    assert found["self_signing"] == theirs.key("self_signing")
    assert found["user_signing"] is None

    signed = mine.sign(theirs.key("master"), "user_signing")
    body = {bob.user_id: {theirs.public("master"): signed}}
    assert await alice.post(SIGN, body) == {"failures": {}}

    assert (await keys_of(alice, bob.user_id))["master"]["signatures"] == signed["signatures"]
    assert (await keys_of(bob, bob.user_id))["master"] == theirs.key("master")


async def test_changes_during_an_outage_are_known_afterwards(
    servers: list[RunningServer],
) -> None:
    alice, bob, _ = await alice_and_bob(servers)
    await keys_of(bob, alice.user_id)
    await servers[1].stop()
    device = Device(alice)
    await device.upload()
    for n in range(3):
        await alice.put(f"/devices/{alice.device_id}", {"display_name": f"{n}"})
    messages = {bob.user_id: {bob.device_id: {"n": 1}}}
    await alice.put("/sendToDevice/test/1", {"messages": messages})
    await servers[1].start()
    servers[1].moved(bob)

    await keys_of(bob, alice.user_id)  # a request from there ends the waiting
    seen: list[Any] = []

    def look(answer: Any) -> bool:
        seen.extend(answer.get("to_device", {}).get("events", []))
        return len(seen) > 0

    await bob.sync_until(look)
    assert [event["content"] for event in seen] == [{"n": 1}]
    for _ in range(50):
        if alice.device_id in (await keys_of(bob, alice.user_id))["devices"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the keys from the time of the outage never came")


async def test_who_comes_back_to_a_room_is_asked_again(servers: list[RunningServer]) -> None:
    alice, bob, room_id = await alice_and_bob(servers)
    await Device(bob).upload()
    await until_changed(alice, bob.user_id)
    before = await keys_of(alice, bob.user_id)
    await bob.leave(room_id)
    await alice.sync_until(
        lambda answer: bob.user_id in answer.get("device_lists", {}).get("left", [])
    )

    phone = await bob.another_device()
    await Device(phone).upload()
    via = {"via": servers[0].config.server_name}
    await bob.request("POST", f"/join/{room_id}", {}, query=via)
    await until_changed(alice, bob.user_id)

    after = await keys_of(alice, bob.user_id)
    assert len(before["devices"]) == 1
    assert len(after["devices"]) == 2


async def test_of_claimed_keys_only_those_asked_for_are_passed_on(
    server: RunningServer, peer: Peer
) -> None:
    alice, bob = await server.user("alice"), f"@bob:{peer.server_name}"
    asked = dict.fromkeys("ABCDEF", "signed_curve25519")
    key = {"signed_curve25519:1": {"key": "x", "signatures": {}}}
    told = {
        "A": key,
        "B": {"curve25519:1": "x"},
        "C": {**key, "signed_curve25519:2": {}},
        "D": [key],
        "E": {"signed_curve25519:1": 7},
        "NOT_ASKED_FOR": key,
    }
    answer = {"one_time_keys": {bob: told, f"@carol:{peer.server_name}": told}}
    peer.answer("POST", "/_matrix/federation/v1/user/keys/claim", answer)
    claimed = await alice.post("/keys/claim", {"one_time_keys": {bob: asked}})
    assert claimed == {"one_time_keys": {bob: {"A": key}}, "failures": {}}


async def test_a_server_tells_of_so_many_devices_at_most(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_device_lists, "MAX_DEVICES", 2)
    alice, room = await joined_room(server, peer)
    devices = [{"device_id": name, "keys": bare_keys(room.user_id, name)} for name in "ABC"]
    answer = {"user_id": room.user_id, "stream_id": 1, "devices": devices}
    peer.answer("GET", "/_matrix/federation/v1/user/devices/", answer)
    found = await alice.post("/keys/query", {"device_keys": {room.user_id: []}})
    assert set(found["device_keys"][room.user_id]) == {"A", "B"}
