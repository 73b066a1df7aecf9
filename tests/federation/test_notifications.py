"""What comes from other servers notifies as what is sent here does."""

from __future__ import annotations

import pytest

from homeserver.json_types import JsonObject
from homeserver.services import incoming_edus
from homeserver.stream import presence
from tests.federation.test_receiving import joined_room
from tests.integration.test_unread_counts import in_thread, read, unread
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.server import RunningServer


async def test_who_is_not_heard_of_any_more_is_offline(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, room = await joined_room(server, peer)
    push = [{"user_id": room.user_id, "presence": "online", "last_active_ago": 1}]
    edus = [{"edu_type": "m.presence", "content": {"push": push}}]
    await peer.request("PUT", "/_matrix/federation/v1/send/1", {"pdus": [], "edus": edus})

    def state(answer: JsonObject) -> str | None:
        events = answer.get("presence", {}).get("events", [])
        told = {event["sender"]: str(event["content"]["presence"]) for event in events}
        return told.get(room.user_id)

    assert await alice.sync_until(state) == "online"
    monkeypatch.setattr(presence, "REMOTE_MS", -1)
    assert server.app is not None
    server.app.stream.presence.sweep()
    assert await alice.sync_until(state) == "offline"


async def count(client: Client, room_id: str) -> tuple[int, int] | None:
    client.next_batch = None
    return unread(await client.sync(), room_id)


async def test_messages_of_another_server_count_and_highlight(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    await room.say("one")
    mention = {
        "msgtype": "m.text",
        "body": "you!",
        "m.mentions": {"user_ids": [alice.user_id]},
    }
    event = room.make("m.room.message", mention)
    await room.send(event)
    room.add(event)
    assert await count(alice, room.room_id) == (2, 1)
    await server.restart()
    assert await count(server.moved(alice), room.room_id) == (2, 1)
    await read(alice, room.room_id, event.event_id)
    assert await count(alice, room.room_id) == (0, 0)


async def test_threaded_receipts_are_taken_where_they_say_something(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, room = await joined_room(server, peer)
    root = await alice.send(room.room_id, "root")
    reply = await alice.send(room.room_id, in_thread(root, "reply"))
    second = await alice.send(room.room_id, in_thread(root, "second"))

    async def told(event_id: str, txn: str, **data: str) -> object:
        """What a receipt of the other server's user shows alice, from scratch."""
        receipt = {"event_ids": [event_id], "data": {"ts": 1, **data}}
        content = {room.room_id: {"m.read": {room.user_id: receipt}}}
        edus = [{"edu_type": "m.receipt", "content": content}]
        body = {"origin": peer.server_name, "origin_server_ts": 1, "pdus": [], "edus": edus}
        assert (await peer.request("PUT", f"/_matrix/federation/v1/send/{txn}", body))[0] == 200
        alice.next_batch = None
        joined = (await alice.sync())["rooms"]["join"][room.room_id]
        (shown,) = [e for e in joined["ephemeral"]["events"] if e["type"] == "m.receipt"]
        return {e: by_type["m.read"][room.user_id] for e, by_type in shown["content"].items()}

    unthreaded = {reply: {"ts": 1}}
    assert await told(reply, "1") == unthreaded
    assert await told(reply, "2", thread_id=root) == unthreaded  # it says no more
    assert await told(second, "3", thread_id="$made-up") == unthreaded
    assert await told(second, "3b", thread_id="no event id") == unthreaded
    threaded = {second: {"ts": 1, "thread_id": root}}
    assert await told(second, "4", thread_id=root) == unthreaded | threaded
    ahead = {"$reply": {"ts": 1, "thread_id": "$later"}}
    assert await told("$reply", "5", thread_id="$later") == unthreaded | threaded | ahead
    monkeypatch.setattr(incoming_edus, "MAX_THREADS_AHEAD", 2)
    assert await told("$reply", "6", thread_id="$too-many") == unthreaded | threaded | ahead
