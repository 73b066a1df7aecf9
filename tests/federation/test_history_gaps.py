"""History that is missing in the middle: jumped over at first, filled when somebody reads there."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from homeserver.clock import now_ms
from homeserver.protocol.events import Event
from tests.federation.test_backfill import all_messages
from tests.federation.test_gaps import serve, unsent
from tests.federation.test_receiving import EVERYBODY_MAY, is_shown, joined_room
from tests.support.client import Client, bodies
from tests.support.peer import Peer
from tests.support.remote_room import V1, RemoteRoom
from tests.support.server import RunningServer


def serve_history(peer: Peer, room: RemoteRoom) -> None:
    """Have the peer answer /backfill from its view of the room."""

    async def backfill(request: web.Request) -> web.StreamResponse:
        waiting, seen = list(request.query.getall("v")), set[str]()
        while waiting:
            event_id = waiting.pop()
            if event_id in room.events and event_id not in seen:
                seen.add(event_id)
                waiting += room.events[event_id].prev_events
        found = sorted(seen, key=lambda id_: -room.events[id_].depth)
        pdus = [room.events[id_].pdu for id_ in found[: int(request.query["limit"])]]
        return web.json_response({"origin": "x", "origin_server_ts": 1, "pdus": pdus})

    peer.answer("GET", f"{V1}/backfill", backfill)


async def room_with_a_gap(
    server: RunningServer, peer: Peer, count: int
) -> tuple[Client, RemoteRoom]:
    """ "before", then so many messages that we lack, then "after"."""
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room, missing_events=False)
    serve_history(peer, room)
    await room.say("before")
    await alice.sync()
    unsent(room, count)
    assert await is_shown(alice, room, (await room.say("after")).event_id)
    return alice, room


def expected(count: int) -> list[str]:
    return ["after", *(f"unsent {number}" for number in reversed(range(count))), "before"]


@pytest.mark.parametrize(("count", "limit"), [(1, 50), (30, 50), (30, 7), (250, 100)])
async def test_who_reads_into_a_gap_fills_it(
    server: RunningServer, peer: Peer, count: int, limit: int
) -> None:
    alice, room = await room_with_a_gap(server, peer, count)
    assert await all_messages(alice, room.room_id, limit) == expected(count)
    asked = peer.asked(f"{V1}/backfill")
    assert await all_messages(alice, room.room_id, limit) == expected(count)
    assert peer.asked(f"{V1}/backfill") == asked


async def test_a_gap_is_filled_for_who_reads_on_too(server: RunningServer, peer: Peer) -> None:
    alice, room = await room_with_a_gap(server, peer, 150)
    context = await alice.get(f"/rooms/{room.room_id}/context/{said_before(room)}", limit="0")
    onwards = {"dir": "f", "from": context["end"], "limit": "200"}
    page = await alice.messages(room.room_id, **onwards)
    assert bodies(page["chunk"]) == expected(150)[:-1][::-1]


def said_before(room: RemoteRoom) -> str:
    found = [e.event_id for e in room.events.values() if e.content.get("body") == "before"]
    return found[0]


async def test_a_gap_outlives_a_restart(server: RunningServer, peer: Peer) -> None:
    alice, room = await room_with_a_gap(server, peer, 3)
    await server.restart()
    server.moved(alice)
    assert await all_messages(alice, room.room_id) == expected(3)


async def test_a_sync_ends_at_a_gap(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    serve(peer, room, missing_events=False)
    serve_history(peer, room)
    await room.say("before")
    unsent(room, 5)
    after = await room.say("after")
    timeline = (await alice.sync())["rooms"]["join"][room.room_id]["timeline"]
    assert [event["event_id"] for event in timeline["events"]] == [after.event_id]
    assert timeline["limited"]
    page = await alice.messages(room.room_id, **{"from": timeline["prev_batch"]})
    assert bodies(page["chunk"])[:6] == [*(f"unsent {n}" for n in (4, 3, 2, 1, 0)), "before"]


async def test_a_gap_that_nobody_fills_is_read_across(server: RunningServer, peer: Peer) -> None:
    alice, room = await room_with_a_gap(server, peer, 3)
    peer.answer("GET", f"{V1}/backfill", {"errcode": "M_UNKNOWN", "error": "no"}, status=400)
    assert await all_messages(alice, room.room_id) == ["after", "before"]
    asked = peer.asked(f"{V1}/backfill")
    assert await all_messages(alice, room.room_id) == ["after", "before"]
    assert peer.asked(f"{V1}/backfill") == asked  # not again so soon


async def test_what_was_known_as_state_is_found_once_it_has_its_place(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room, missing_events=False)
    serve_history(peer, room)
    topic = room.make("m.room.topic", {"topic": "hedgehogs"}, state_key="")
    room.add(topic)
    assert await is_shown(alice, room, (await room.say("after")).event_id)
    assert not await is_shown(alice, room, topic.event_id)
    await alice.messages(room.room_id)
    assert await is_shown(alice, room, topic.event_id)
    wanted = {"search_categories": {"room_events": {"search_term": "hedgehogs"}}}
    async with asyncio.timeout(20):
        while True:
            answer = await alice.post("/search", wanted)
            if answer["search_categories"]["room_events"]["count"]:
                return
            await asyncio.sleep(0.05)


def dated(room: RemoteRoom, count: int, start: int) -> list[Event]:
    """Messages that the peer knows, a second apart."""
    events = []
    for number in range(count):
        ts = start + 1000 * number
        events.append(room.message(f"unsent {number}", origin_server_ts=ts))
        room.add(events[-1])
    return events


@pytest.mark.parametrize("direction", ["f", "b"])
async def test_the_event_of_a_time_in_a_gap_is_asked_of_others(
    server: RunningServer, peer: Peer, direction: str
) -> None:
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    serve(peer, room, missing_events=False)
    serve_history(peer, room)
    await room.say("before")
    start = now_ms() + 10_000
    events = dated(room, 300, start)
    after = room.message("after", origin_server_ts=start + 1_000_000)
    room.add(after)
    await room.send(after)
    wanted = events[150]
    told = {"event_id": wanted.event_id, "origin_server_ts": wanted.origin_server_ts}
    peer.answer("GET", f"{V1}/timestamp_to_event", told)
    path = f"/_matrix/client/v1/rooms/{room.room_id}/timestamp_to_event"
    ts = wanted.origin_server_ts + (-100 if direction == "f" else 100)
    for _ in range(2):
        assert await alice.get(path, ts=str(ts), dir=direction) == told
    assert peer.asked(f"{V1}/timestamp_to_event") <= 2
    context = await alice.get(f"/rooms/{room.room_id}/context/{wanted.event_id}", limit="5")
    assert bodies(context["events_before"])[:2] == ["unsent 149", "unsent 148"]
    assert await all_messages(alice, room.room_id, 100) == expected(300)


async def test_without_a_gap_nobody_is_asked_for_the_event_of_a_time(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    event = await room.say("here")
    path = f"/_matrix/client/v1/rooms/{room.room_id}/timestamp_to_event"
    answer = await alice.get(path, ts=str(event.origin_server_ts), dir="b")
    assert answer["event_id"] == event.event_id
    assert peer.asked(f"{V1}/timestamp_to_event") == 0
