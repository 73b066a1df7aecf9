"""/initialSync and /events, for old clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.client import Client, Refused, bodies
from tests.support.server import RunningServer


async def stream(client: Client, start: str, **query: str) -> Any:
    return await client.get("/events", **{"from": start, "timeout": "0", **query})


async def test_the_initial_sync_tells_all_rooms(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="The pub")
    left = await alice.create_room(preset="public_chat")
    invited = await alice.create_room(invite=[bob.user_id])
    for room in (room_id, left):
        await bob.join(room)
    await bob.leave(left)
    await bob.send(room_id, "hello")
    await bob.put(f"/user/{bob.user_id}/account_data/org.example", {"a": 1})

    answer = await bob.get("/initialSync", limit="2")

    rooms = {room["room_id"]: room for room in answer["rooms"]}
    assert rooms.keys() == {room_id, invited}
    assert rooms[invited]["membership"] == "invite"
    assert rooms[invited]["invite"]["state_key"] == bob.user_id
    assert bodies(rooms[room_id]["messages"]["chunk"]) == ["hello"]
    assert {e["type"] for e in rooms[room_id]["state"]} >= {"m.room.name", "m.room.create"}
    assert {"type": "org.example", "content": {"a": 1}} in answer["account_data"]
    archived = await bob.get("/initialSync", archived="true")
    assert {room["room_id"]: room["membership"] for room in archived["rooms"]}[left] == "leave"
    assert answer["receipts"] == []
    later = await alice.send(room_id, "later")
    chunk = (await stream(bob, answer["end"]))["chunk"]
    assert [event["event_id"] for event in chunk] == [later]


async def test_a_room_can_be_peeked_into(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    world = {
        "type": "m.room.history_visibility",
        "content": {"history_visibility": "world_readable"},
    }
    room_id = await alice.create_room(preset="public_chat", initial_state=[world])
    await alice.send(room_id, "hello")

    snapshot = await eve.get(f"/rooms/{room_id}/initialSync")
    assert bodies(snapshot["messages"]["chunk"]) == ["hello"]
    assert snapshot["state"]
    assert (snapshot["presence"], snapshot["receipts"]) == ([], [])
    waiting = asyncio.create_task(
        stream(eve, snapshot["messages"]["end"], room_id=room_id, timeout="10000")
    )
    await asyncio.sleep(0.1)
    await alice.send(room_id, "news")
    assert bodies((await waiting)["chunk"]) == ["news"]

    private = await alice.create_room()
    for path in (f"/rooms/{private}/initialSync", f"/events?room_id={private}"):
        with pytest.raises(Refused) as refused:
            await eve.get(path)
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


async def test_the_event_stream_wakes_with_messages_invites_and_receipts(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    start = (await stream(bob, ""))["end"]

    waiting = asyncio.create_task(stream(bob, start, timeout="10000"))
    await asyncio.sleep(0.05)
    event_id = await alice.send(room_id, "hello")
    answer = await waiting
    assert [event["event_id"] for event in answer["chunk"]] == [event_id]
    assert answer["chunk"][0]["room_id"] == room_id
    assert answer["start"] == start

    await alice.post(f"/rooms/{room_id}/receipt/m.read/{event_id}")
    invited = await alice.create_room(invite=[bob.user_id])
    later = await stream(bob, answer["end"])
    seen = {(event["type"], event["room_id"]) for event in later["chunk"]}
    assert seen == {("m.receipt", room_id), ("m.room.member", invited)}
    assert (await stream(bob, later["end"]))["chunk"] == []


async def test_one_event_is_found_without_its_room(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "hello")
    await server.restart()
    alice, eve = server.moved(alice), server.moved(eve)

    assert (await alice.get(f"/events/{event_id}"))["room_id"] == room_id
    with pytest.raises(Refused) as refused:
        await eve.get(f"/events/{event_id}")
    assert refused.value.status == 404


async def test_bad_tokens_are_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    for token in ("rubbish", "s999999999999"):
        with pytest.raises(Refused) as refused:
            await stream(alice, token)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")


async def test_the_initial_sync_tells_receipts_and_who_is_there(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    hello = await alice.send(room_id, "hello")
    await bob.post(f"/rooms/{room_id}/receipt/m.read/{hello}", {})
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online", "status_msg": "hi"})

    snapshot = await alice.get(f"/rooms/{room_id}/initialSync")
    (receipt,) = snapshot["receipts"]
    assert (receipt["type"], receipt["room_id"]) == ("m.receipt", room_id)
    assert bob.user_id in receipt["content"][hello]["m.read"]
    assert (await alice.get("/initialSync"))["receipts"] == [receipt]
    told = {event["content"]["user_id"]: event["content"] for event in snapshot["presence"]}
    assert told[bob.user_id]["status_msg"] == "hi"
    everything = (await alice.get("/initialSync"))["presence"]
    assert {event["sender"] for event in everything} == {alice.user_id, bob.user_id}
    await alice.leave(room_id)
    departed = await alice.get(f"/rooms/{room_id}/initialSync")
    assert (departed["membership"], departed["presence"], departed["receipts"]) == ("leave", [], [])
