"""Rooms in which the ends pile up: an event that nobody is shown ties them together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from tests.federation.test_receiving import joined_room
from tests.support.peer import Peer
from tests.support.remote_room import V1, RemoteRoom
from tests.support.server import RunningServer

DUMMY = "org.matrix.dummy_event"


async def fork(room: RemoteRoom, count: int) -> list[Event]:
    """So many messages beside each other."""
    events = [room.message(f"{number}") for number in range(count)]
    for event in events:
        room.events[event.event_id] = event
    for start in range(0, count, 50):
        await room.send(*events[start : start + 50])
    return events


async def ends(room: RemoteRoom) -> list[str]:
    """What the next event would have as prev_events."""
    path = f"{V1}/make_leave/{room.room_id}/{room.user_id}"
    status, answer = await room.peer.request("GET", path)
    assert status == 200, answer
    prev_events: list[str] = answer["event"]["prev_events"]
    return prev_events


async def pdu(room: RemoteRoom, event_id: str) -> JsonObject:
    status, answer = await room.peer.request("GET", f"{V1}/event/{event_id}")
    assert status == 200, answer
    found: JsonObject = answer["pdus"][0]
    return found


async def reached(room: RemoteRoom, starts: Iterable[str]) -> set[str]:
    """What is reached from events by prev_events, up to what the peer has."""
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        event_id = waiting.pop()
        if event_id not in seen:
            seen.add(event_id)
            if event_id not in room.events:
                waiting += (await pdu(room, event_id))["prev_events"]
    return seen


async def test_many_ends_are_tied_together_unseen(server: RunningServer, peer: Peer) -> None:
    alice, room = await joined_room(server, peer)
    events = await fork(room, 12)
    async with asyncio.timeout(20):
        while len(tied := await ends(room)) > 10:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)
    [dummy] = [p for p in [await pdu(room, end) for end in tied] if p["type"] == DUMMY]
    assert (dummy["content"], dummy["sender"]) == ({}, alice.user_id)
    assert len(dummy["prev_events"]) > 10  # it may have come before the last of them
    assert {event.event_id for event in events} <= {*dummy["prev_events"], *tied}
    last = await alice.send(room.room_id, "after it")
    chunk = (await alice.messages(room.room_id, limit="20"))["chunk"]
    assert chunk[0]["event_id"] == last
    assert DUMMY not in {event["type"] for event in chunk}
    path = f"{V1}/backfill/{room.room_id}?v={last}&limit=3"
    _, answer = await peer.request("GET", path)
    assert answer["pdus"][0]["type"] == "m.room.message"
    assert DUMMY in {event["type"] for event in answer["pdus"]}


async def test_a_few_ends_are_left_alone(server: RunningServer, peer: Peer) -> None:
    _, room = await joined_room(server, peer)
    await fork(room, 10)
    assert len(await ends(room)) == 10


async def test_no_end_is_lost_to_others_however_many_there_are(
    server: RunningServer, peer: Peer
) -> None:
    alice, room = await joined_room(server, peer)
    events = await fork(room, 50)
    sent = await alice.send(room.room_id, "to all of them")
    assert len((await pdu(room, sent))["prev_events"]) <= 20
    tied = await reached(room, [sent])
    assert {event.event_id for event in events} <= tied


async def test_who_may_not_send_ties_nothing_and_loses_nothing(
    server: RunningServer, peer: Peer
) -> None:
    levels = {"events": {DUMMY: 101, "m.room.message": 0}}
    alice, room = await joined_room(server, peer, "11", power_level_content_override=levels)
    events = await fork(room, 30)
    first = await alice.send(room.room_id, "one")
    second = await alice.send(room.room_id, "two")
    assert len((await pdu(room, first))["prev_events"]) == 20
    tied = await reached(room, [second])
    assert {event.event_id for event in events} <= tied
