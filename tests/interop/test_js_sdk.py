"""matrix-js-sdk with Rust crypto, as Element has it: what it encrypts is read, always."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.js_client import JsClients
from tests.support.server import RunningServer

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("node")]


async def test_two_users_with_two_devices_each(server: RunningServer, js: JsClients) -> None:
    alice = await js.add("alice", await server.user("alice"))
    bob = await js.add("bob", await server.user("bob"))
    recovery_key = await alice.bootstrap()
    await bob.bootstrap()
    room_id = await alice.create_encrypted_room(bob.user_id)
    await bob("join", roomId=room_id)
    first = await alice.send(room_id, "first", bob.user_id)
    assert await bob.read(room_id, first) == "first"

    await alice.verify(bob, room_id)
    await alice.until_it_trusts(bob)
    await bob.until_it_trusts(alice)

    phone = await js.add("phone", await alice.account.another_device())
    tablet = await js.add("tablet", await bob.account.another_device())
    await phone.verify(alice)
    await alice.until_it_trusts(phone)
    await bob.until_it_trusts(phone)
    assert not await tablet.trusts_now(phone)
    answer = await bob.send(room_id, "answer")
    for device in (alice, bob, phone, tablet):
        assert await device.read(room_id, answer) == "answer"

    await alice.until_backed_up(2)
    laptop = await js.add("laptop", await alice.account.another_device())
    restored = await laptop("recover", recoveryKey=recovery_key)
    assert restored["isReady"]
    assert restored["imported"] >= 2
    assert [await laptop.read(room_id, event_id) for event_id in (first, answer)] == [
        "first",
        "answer",
    ]
    await bob.until_it_trusts(laptop)


async def test_a_dehydrated_device_receives_what_no_other_does(
    server: RunningServer, js: JsClients
) -> None:
    alice = await js.add("alice", await server.user("alice"))
    bob = await js.add("bob", await server.user("bob"))
    recovery_key = await alice.bootstrap()
    await alice("dehydrate", rehydrate=False)
    room_id = await bob.create_encrypted_room(alice.user_id)
    await alice("join", roomId=room_id)
    for _ in range(100):  # until bob has seen her join: only of those it tracks it knows all
        devices = await bob("devices", userId=alice.user_id)
        if any(device["dehydrated"] for device in devices):
            break
        await asyncio.sleep(0.1)
    assert sorted(device["dehydrated"] for device in devices) == [False, True]

    await alice("stop")
    await alice.account.post("/logout")
    event_id = await bob.send(room_id, "while you were away", alice.user_id)
    back = await js.add("back", await server.anonymous().login("alice"))
    await back("recover", recoveryKey=recovery_key)
    received = await back("dehydrate")

    assert received["received"] >= 1
    assert await back.read(room_id, event_id) == "while you were away"
