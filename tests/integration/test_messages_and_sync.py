"""From a sent event to a woken /sync."""

from __future__ import annotations

import asyncio

import pytest
from yarl import URL

from homeserver.stream import transactions
from tests.support.server import RunningServer


async def test_a_message_wakes_the_sync_of_a_member(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    since = (await bob.sync())["next_batch"]

    waiting = asyncio.create_task(bob.sync(since=since, timeout_ms=10_000))
    await asyncio.sleep(0.05)
    event_id = await alice.send(room_id, "hello")

    answer = await waiting
    timeline = answer["rooms"]["join"][room_id]["timeline"]
    assert [event["event_id"] for event in timeline["events"]] == [event_id]
    assert timeline["limited"] is False


async def test_an_initial_sync_shows_state_and_timeline(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="The pub")
    sent = [await alice.send(room_id, f"message {n}") for n in range(15)]

    room = (await alice.sync())["rooms"]["join"][room_id]

    assert [event["event_id"] for event in room["timeline"]["events"]] == sent[-10:]
    assert room["timeline"]["limited"] is True
    types = {event["type"] for event in room["state"]["events"]}
    assert {"m.room.create", "m.room.member", "m.room.name", "m.room.power_levels"} <= types
    assert room["summary"]["m.joined_member_count"] == 1


async def test_an_invite_shows_the_room_to_the_invited(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(name="Secret", invite=[bob.user_id])

    invited = (await bob.sync())["rooms"]["invite"][room_id]["invite_state"]["events"]

    assert {"m.room.name", "m.room.create", "m.room.member"} <= {e["type"] for e in invited}


async def test_everything_is_there_after_a_restart(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    sent = [await alice.send(room_id, f"message {n}") for n in range(3)]
    await server.restart()
    alice = server.moved(alice)

    room = (await alice.sync(since=since))["rooms"]["join"][room_id]

    assert [event["event_id"] for event in room["timeline"]["events"]] == sent
    assert room["timeline"]["limited"] is False
    later = await alice.send(room_id, "later")
    room = (await alice.sync(since=since))["rooms"]["join"][room_id]
    assert [event["event_id"] for event in room["timeline"]["events"]] == [*sent, later]


async def test_text_that_cannot_be_stored_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for path in ("send/a%00/1", "send/m.room.message/%00", "state/a%00/", "state/a/%00"):
        url = URL(f"{server.url}/_matrix/client/v3/rooms/{room_id}/{path}", encoded=True)
        headers = {"Authorization": f"Bearer {alice.token}"}
        async with alice.http.put(url, json={}, headers=headers) as response:
            assert response.status == 400, path
            assert (await response.json())["errcode"] in ("M_BAD_JSON", "M_INVALID_PARAM")
    await alice.send(room_id, "NUL in \0 content is fine")


async def test_the_old_way_of_sending_takes_a_transaction_id_too(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    path = f"/rooms/{room_id}/send/m.room.message"
    sent = [
        (await alice.post(way, {"msgtype": "m.text", "body": "hello"}))["event_id"]
        for way in (path, f"{path}/1", f"{path}/1")
    ]
    assert len(set(sent)) == 3


async def test_a_device_whose_sends_were_let_go_still_repeats_them(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "SENDS", 3)
    monkeypatch.setattr(transactions, "LOOK_EVERY", 1)
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    sent = [await alice.send(room_id, "hello", txn_id=f"t{n}") for n in range(3)]
    await bob.send(room_id, "hello", txn_id="t0")
    assert server.app is not None
    assert list(server.app.stream.transactions._devices) == [(bob.user_id, bob.device_id)]
    again = [await alice.send(room_id, "hello", txn_id=f"t{n}") for n in range(3)]
    assert again == sent


async def test_a_device_that_was_logged_out_leaves_its_name_without_transactions(
    server: RunningServer,
) -> None:
    """Otherwise the first messages of a bot that counts from one would be lost with each login."""
    alice = await server.user("alice")
    room_id = await alice.create_room()
    first = await alice.send(room_id, "hello", txn_id="1")
    await alice.post("/logout")
    await alice.login("alice", device_id=alice.device_id)
    second = await alice.send(room_id, "hello again", txn_id="1")
    assert first != second
    assert server.app is not None
    server.app.stream.transactions._devices.clear()  # as after a restart
    assert await alice.send(room_id, "hello again", txn_id="1") == second
