"""matrix-js-sdk keeps up by /sync (lazy members, threads, state_after) and by sliding sync."""

from __future__ import annotations

import pytest

from homeserver.json_types import JsonObject
from tests.support.js_client import JsClients
from tests.support.server import RunningServer

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("node")]


@pytest.mark.parametrize("sliding", [False, True], ids=["sync", "sliding"])
async def test_a_client_keeps_up(server: RunningServer, js: JsClients, sliding: bool) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(name="pub", preset="public_chat")
    await bob.join(room_id)
    for number in range(30):
        await alice.send(room_id, f"{number}")
    client = await js.add_plain(f"bob {sliding}", bob, sliding=sliding)

    await alice.set_state(room_id, "m.room.topic", {"topic": "beer"})
    carol = await server.user("carol")
    await carol.join(room_id)
    last = await carol.send(room_id, "hello")
    room = await client("room", roomId=room_id, eventId=last)

    assert (room["name"], room["topic"]) == ("pub", "beer")
    assert room["joinedCount"] == 3
    assert set(room["knownMembers"]) == {alice.user_id, bob.user_id, carol.user_id}
    page = await bob.messages(room_id, limit="100")
    truth = [event["event_id"] for event in page["chunk"]][::-1]
    shown = room["timeline"]
    assert shown == truth[len(truth) - len(shown) :]
    assert len(shown) >= 10


async def test_members_are_loaded_when_they_speak(server: RunningServer, js: JsClients) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(preset="public_chat")
    for client in (bob, carol):
        await client.join(room_id)
    for number in range(25):
        await alice.send(room_id, f"{number}")
    lazy = await js.add_plain("bob", bob, lazy=True)
    last = await alice.send(room_id, "so far carol was silent")
    room = await lazy("room", roomId=room_id, eventId=last)
    assert set(room["knownMembers"]) == {alice.user_id, bob.user_id}
    assert room["joinedCount"] == 3

    last = await carol.send(room_id, "now I speak")
    room = await lazy("room", roomId=room_id, eventId=last)
    assert carol.user_id in room["knownMembers"]


async def test_a_thread_is_known_with_its_replies(server: RunningServer, js: JsClients) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    client = await js.add_plain("bob", bob)
    root = await alice.send(room_id, "root")
    relates_to: JsonObject = {"rel_type": "m.thread", "event_id": root}
    reply = await alice.send(
        room_id, {"msgtype": "m.text", "body": "reply", "m.relates_to": relates_to}
    )
    room = await client("room", roomId=room_id, eventId=reply)
    assert room["threads"] == [root]
