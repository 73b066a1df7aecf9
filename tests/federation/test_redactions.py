"""Redactions and their targets, in either order."""

from __future__ import annotations

import pytest

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from tests.federation.conftest import StartPeer, StartServers
from tests.federation.test_gaps import serve
from tests.federation.test_receiving import EVERYBODY_MAY, is_shown, joined_room
from tests.support.client import Client, bodies, timeline
from tests.support.peer import Peer
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer


def redaction(room: RemoteRoom, target: Event) -> Event:
    """Of the peer's user, on a fork beside its target."""
    content = {"reason": "regret"}
    return room.make("m.room.redaction", content, redacts=target.event_id)


async def forget(server: RunningServer, room_id: str) -> None:
    """Have the server read the room again."""
    assert server.app is not None
    server.app.stream.rooms.drop(room_id)


@pytest.mark.parametrize("version", ["1", "3", "11", "12"])
async def test_a_redaction_waits_for_its_target(
    server: RunningServer, peer: Peer, version: str
) -> None:
    alice, room = await joined_room(server, peer, version)
    target = room.message("never said")
    waiting = redaction(room, target)
    assert await room.send(waiting) == {waiting.event_id: {}}
    assert not await is_shown(alice, room, waiting.event_id)
    since = (await alice.sync())["next_batch"]
    await forget(server, room.room_id)
    await room.send(target)
    shown = await alice.event(room.room_id, target.event_id)
    assert shown["content"] == {}
    assert shown["unsigned"]["redacted_because"]["event_id"] == waiting.event_id
    answer = await alice.sync(since=since)
    told = timeline(answer, room.room_id)
    assert [e["event_id"] for e in told] == [target.event_id, waiting.event_id]
    assert told[0]["content"] == {}
    count = answer["rooms"]["join"][room.room_id]["unread_notifications"]["notification_count"]
    assert count == 0


async def test_a_redaction_and_its_target_in_one_transaction(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    target = room.message("never said", depth=50)  # judged after the redaction
    first = redaction(room, target)
    await room.send(first, target)
    assert (await alice.event(room.room_id, target.event_id))["content"] == {}
    assert await is_shown(alice, room, first.event_id)


async def test_who_may_not_redact_is_not_heard(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    said = await alice.send(room.room_id, "said")
    known = room.make("m.room.redaction", {}, redacts=said)
    assert await room.send(known) == {known.event_id: {}}
    assert not await is_shown(alice, room, known.event_id)
    assert bodies([await alice.event(room.room_id, said)]) == ["said"]
    room.add(known)
    # Other servers, who may know more, build on it.
    assert await is_shown(alice, room, (await room.say("after it")).event_id)


async def test_a_waiting_redaction_of_a_stranger_hits_nothing(
    server: RunningServer, peer: Peer, start_peer: StartPeer
) -> None:
    alice, room = await joined_room(server, peer)
    other = await start_peer(server)
    carols = RemoteRoom(other, room.room_id, f"@carol:{other.server_name}")
    await carols.join()
    target = carols.message("said")
    waiting = redaction(room, target)
    await room.send(waiting)
    await carols.send(target)
    assert not await is_shown(alice, room, waiting.event_id)
    assert bodies([await alice.event(room.room_id, target.event_id)]) == ["said"]


async def test_a_waiting_redaction_hits_a_state_event_that_is_fetched(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room, missing_events=False)
    topic = room.make("m.room.topic", {"topic": "never said"}, state_key="")
    waiting = redaction(room, topic)
    await room.send(waiting)
    room.add(topic)
    event = await room.say("after the gap")
    assert await is_shown(alice, room, event.event_id)
    assert await alice.state(room.room_id, "m.room.topic") == {}


async def test_what_a_local_user_redacts_may_come_later(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    target = room.message("never said")
    waiting = await alice.redact(room.room_id, target.event_id)
    assert await is_shown(alice, room, waiting)
    await room.send(target)
    shown = await alice.event(room.room_id, target.event_id)
    assert shown["unsigned"]["redacted_because"]["event_id"] == waiting
    page = await alice.messages(room.room_id)
    assert [e["event_id"] for e in page["chunk"]][:2] == [target.event_id, waiting]


async def test_a_redaction_is_fetched_by_those_who_lack_it(
    start_servers: StartServers,
) -> None:
    """A redacted event from before a user's join is shown with what redacted it."""
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    said = await alice.send(room_id, "regretted")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    regret = await alice.redact(room_id, said)
    last = await alice.send(room_id, "done")
    await bob.sync_until_event(room_id, last)
    chunk = await everything(bob, room_id)
    by_id = {event["event_id"]: event for event in chunk}
    assert by_id[said]["unsigned"]["redacted_because"]["event_id"] == regret
    # Now that its target is here, it has its own place.
    ids = [event["event_id"] for event in await everything(bob, room_id)]
    assert ids.index(last) < ids.index(regret) < ids.index(said)


async def everything(client: Client, room_id: str) -> list[JsonObject]:
    """All events of a room's history, the newest first."""
    chunk: list[JsonObject] = []
    query = {"limit": "50"}
    for _ in range(20):
        page = await client.messages(room_id, **query)
        chunk += page["chunk"]
        if "end" not in page:
            return chunk
        query["from"] = page["end"]
    raise AssertionError("the history does not end")
