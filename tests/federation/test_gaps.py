"""Events that refer to what we lack: it is fetched, and never trusted."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.federation.test_receiving import EVERYBODY_MAY, is_shown, joined_room
from tests.support.client import bodies
from tests.support.peer import Peer
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer

V1 = "/_matrix/federation/v1"


def serve(peer: Peer, room: RemoteRoom, *, missing_events: bool = True) -> None:
    """Have the peer answer for the events of its view of the room."""

    async def missing(request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        seen, found = set(asked["earliest_events"]), []
        level = list(asked["latest_events"])
        while level:
            level = [p for e in level if e in room.events for p in room.events[e].prev_events]
            level = [p for p in dict.fromkeys(level) if p in room.events and p not in seen]
            seen.update(level)
            found += [room.events[event_id].pdu for event_id in level]
        return web.json_response({"events": found[: asked["limit"]][::-1]})

    async def event(request: web.Request) -> web.StreamResponse:
        event_id = request.path.rpartition("/")[2]
        if event_id not in room.events:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "?"}, status=404)
        return web.json_response({"pdus": [room.events[event_id].pdu]})

    async def state_ids(request: web.Request) -> web.StreamResponse:
        ids = list(room.state.values())
        return web.json_response({"pdu_ids": ids, "auth_chain_ids": ids})

    async def event_auth(request: web.Request) -> web.StreamResponse:
        pdus = [room.events[event_id].pdu for event_id in room.state.values()]
        return web.json_response({"auth_chain": pdus})

    if missing_events:
        peer.answer("POST", f"{V1}/get_missing_events", missing)
    peer.answer("GET", f"{V1}/event/", event)
    peer.answer("GET", f"{V1}/state_ids", state_ids)
    peer.answer("GET", f"{V1}/event_auth", event_auth)


def unsent(room: RemoteRoom, count: int) -> list[Event]:
    """Messages that the peer knows, and we don't."""
    events = []
    for number in range(count):
        events.append(room.message(f"unsent {number}"))
        room.add(events[-1])
    return events


@pytest.mark.parametrize("count", [1, 40, 120])
async def test_missing_events_are_fetched(server: RunningServer, peer: Peer, count: int) -> None:
    alice, room = await joined_room(server, peer)
    serve(peer, room)
    events = unsent(room, count)
    last = await room.say("the last one")
    for event in (*events, last):
        assert await is_shown(alice, room, event.event_id)
    page = await alice.messages(room.room_id, limit="200")
    assert bodies(page["chunk"]) == [
        "the last one",
        *(f"unsent {number}" for number in reversed(range(count))),
    ]


async def test_a_gap_is_jumped_over_with_the_state_that_the_peer_tells(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room, missing_events=False)
    topic = room.make("m.room.topic", {"topic": "unsent"}, state_key="")
    room.add(topic)
    unsent(room, 3)
    event = await room.say("after the gap")
    assert await is_shown(alice, room, event.event_id)
    assert await alice.state(room.room_id, "m.room.topic") == {"topic": "unsent"}
    after = await room.say("and on")
    assert await is_shown(alice, room, after.event_id)


async def test_what_was_jumped_over_is_read_in_its_place(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    serve(peer, room, missing_events=False)
    await room.say("before")
    await alice.sync()
    unsent(room, 3)
    await room.say("after")
    joined = (await alice.sync())["rooms"]["join"][room.room_id]
    assert bodies(joined["timeline"]["events"]) == ["after"]
    assert joined["timeline"]["limited"]

    async def backfill(request: web.Request) -> web.StreamResponse:
        pdus = [event.pdu for event in room.events.values()]
        return web.json_response({"pdus": pdus[::-1]})

    peer.answer("GET", f"{V1}/backfill/", backfill)
    page = await alice.messages(room.room_id)
    expected = ["after", "unsent 2", "unsent 1", "unsent 0", "before"]
    assert bodies(page["chunk"]) == expected
    query = {"from": joined["timeline"]["prev_batch"]}
    page = await alice.messages(room.room_id, **query)
    assert bodies(page["chunk"]) == expected[1:]


async def test_an_event_whose_past_nobody_tells_is_left_aside(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    unsent(room, 1)
    event = room.message("of unknown descent")
    assert await room.send(event) == {event.event_id: {}}  # nothing is wrong with it
    assert not await is_shown(alice, room, event.event_id)


async def test_unknown_auth_events_are_fetched(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room)
    name = {"membership": "join", "displayname": "Bob"}
    renamed = room.make("m.room.member", name, state_key=room.user_id)
    room.add(renamed)
    event = await room.say("under a new name")
    shown = await alice.event(room.room_id, event.event_id)
    assert shown["content"]["body"] == "under a new name"
    member = await alice.state(room.room_id, "m.room.member", room.user_id)
    assert member["displayname"] == "Bob"


async def test_a_state_that_is_a_lie_changes_nothing(server: RunningServer, peer: Peer) -> None:
    """The peer says that its user has all the power: no event of the room ever said so."""
    alice, room = await joined_room(server, peer)
    serve(peer, room, missing_events=False)
    levels = {"users": {room.user_id: 100}}
    forged = room.make("m.room.power_levels", levels, state_key="")
    before = room.state["m.room.power_levels", ""]
    room.add(forged)
    event = room.make("m.room.topic", {"topic": "conquered"}, state_key="")
    await room.send(event)
    with pytest.raises(Exception, match="M_NOT_FOUND"):
        await alice.state(room.room_id, "m.room.topic")
    power = await alice.state(room.room_id, "m.room.power_levels")
    assert room.user_id not in power["users"]
    room.state["m.room.power_levels", ""] = before
    room.heads = [event_id for event_id in room.events if event_id != forged.event_id][-1:]
    assert await is_shown(alice, room, (await room.say("as before")).event_id)


async def test_a_flood_in_one_room_does_not_stop_another(server: RunningServer, peer: Peer) -> None:
    alice, flooded = await joined_room(server, peer)
    quiet = await alice.create_room(preset="public_chat")
    other = RemoteRoom(peer, quiet, flooded.user_id)
    await other.join()
    events = unsent(flooded, 50)
    flood = asyncio.gather(*(flooded.send(*events) for _ in range(5)))
    event = await other.say("in peace")
    assert await is_shown(alice, other, event.event_id)
    await flood


async def test_what_follows_from_an_event_that_cannot_be_had_is_not_believed(
    server: RunningServer, peer: Peer
) -> None:
    """Five names of the peer's user, each event allowed by the one before; one of them is lost."""
    alice, room = await joined_room(server, peer, "10")
    serve(peer, room, missing_events=False)
    chain = list(room.state.values())
    for name in "ABCDE":
        content = {"membership": "join", "displayname": name}
        room.add(room.make("m.room.member", content, state_key=room.user_id))
        chain.append(room.heads[0])
    lost = chain[-4]
    del room.events[lost]
    told_ids = {"pdu_ids": list(room.state.values()), "auth_chain_ids": chain}
    peer.answer("GET", f"{V1}/state_ids", told_ids)
    told = unsent(room, 2)[1]
    peer.answer("POST", f"{V1}/get_missing_events", {"events": [told.pdu]})
    await room.send(room.message("after the gap"))
    assert peer.asked(f"{V1}/event/{quote(lost, '')}")
    member = await alice.state(room.room_id, "m.room.member", room.user_id)
    assert "displayname" not in member


async def test_an_outdated_join_rule_in_a_told_state_undoes_nothing(
    server: RunningServer, peer: Peer
) -> None:
    """Version 12's resolution replays what is conflicted from the auth events of each event."""
    alice, room = await joined_room(server, peer, "12")
    bob = await server.user("bob")
    await bob.join(room.room_id)
    serve(peer, room, missing_events=False)
    await alice.set_state(room.room_id, "m.room.join_rules", {"join_rule": "invite"})
    await alice.leave(room.room_id)
    path = f"{V1}/state/{quote(room.room_id, '')}?event_id="
    _, offer = await peer.request("GET", f"{V1}/make_leave/{room.room_id}/{room.user_id}")
    [head] = offer["event"]["prev_events"]
    _, answer = await peer.request("GET", path + quote(head, ""))
    for pdu in (*answer["pdus"], (await room_event(peer, head))):
        event = parse_event(pdu, ROOM_VERSIONS["12"])
        if event.type != "m.room.join_rules":
            room.add(event)
    room.heads = [head]
    outdated = list(room.state.values())  # before the first of the three names
    for name in "ABC":
        content = {"membership": "join", "displayname": name}
        room.add(room.make("m.room.member", content, state_key=room.user_id))
    told = room.events[room.heads[0]]
    [first] = room.events[told.prev_events[0]].prev_events
    member = room.events[first].auth_events
    state = [id_ for id_ in outdated if room.events[id_].key != ("m.room.member", room.user_id)]
    told_ids = {"pdu_ids": [*state, first], "auth_chain_ids": [*outdated, *member]}
    peer.answer("GET", f"{V1}/state_ids", told_ids)
    peer.answer("POST", f"{V1}/get_missing_events", {"events": [told.pdu]})
    event = await room.say("the join rule is as it was")
    assert await is_shown(bob, room, event.event_id)
    assert peer.asked(f"{V1}/state_ids") == 1
    assert await bob.state(room.room_id, "m.room.join_rules") == {"join_rule": "invite"}


async def room_event(peer: Peer, event_id: str) -> JsonObject:
    """An event as our server serves it."""
    _, answer = await peer.request("GET", f"{V1}/event/{quote(event_id, '')}")
    [pdu] = answer["pdus"]
    assert isinstance(pdu, dict)
    return pdu
