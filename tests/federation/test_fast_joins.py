"""Rooms that we join without their members: what works at once, and how the rest comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeserver.backoff import Backoff
from homeserver.json_types import JsonObject
from homeserver.services import resync
from homeserver.stream import catch_up, whole_rooms
from homeserver.stream.incoming import Incoming
from tests.federation.conftest import StartPeer, StartServers
from tests.support.client import Client, bodies, quote, refusal, timeline, until
from tests.support.partial_room import PartialRoom, State
from tests.support.peer import Peer
from tests.support.remote_room import V1, V2
from tests.support.server import RunningServer

LAZILY = '{"room":{"state":{"lazy_load_members":true}}}'


@pytest.fixture
async def room(peer: Peer) -> AsyncIterator[PartialRoom]:
    """A room of the peer's with members, that tells only a part of its state for now."""
    room = PartialRoom(peer)
    for localpart in ("ann", "ben", "cleo"):
        room.member(localpart)
    room.serve()
    room.told.clear()
    yield room
    room.told.set()


async def join(client: Client, room: PartialRoom, via: str | None = None) -> None:
    query = {"via": via or room.peer.server_name}
    await client.request("POST", f"/join/{quote(room.room_id)}", {}, query=query)


async def lazy_member(server: RunningServer, room: PartialRoom) -> Client:
    """Alice, who loads members lazily, has joined and knows it."""
    alice = await server.user("alice")
    await alice.sync(filter=LAZILY)
    await join(alice, room)
    await alice.sync(filter=LAZILY)
    return alice


def members(room: PartialRoom, *more: str) -> set[str]:
    names = {f"@{name}:{room.peer.server_name}" for name in ("creator", "ann", "ben", "cleo")}
    return names | set(more)


def joined(answer: JsonObject, room: PartialRoom) -> Any:
    return answer.get("rooms", {}).get("join", {}).get(room.room_id)


def members_shown(answer: JsonObject, room: PartialRoom) -> set[str]:
    shown = joined(answer, room)
    events = [*shown["state"]["events"], *shown["timeline"]["events"]]
    return {e["state_key"] for e in events if e["type"] == "m.room.member"}


async def test_a_room_is_there_before_its_members_are(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await alice.sync(filter=LAZILY)
    await join(alice, room)
    answer = await alice.sync(filter=LAZILY)
    assert "far away" in str(joined(answer, room)["state"])
    event_id = await alice.send(room.room_id, "already here")
    answer = await alice.sync(filter=LAZILY)
    assert [e["event_id"] for e in timeline(answer, room.room_id)] == [event_id]
    page = await alice.messages(room.room_id)
    assert "already here" in bodies(page["chunk"])
    await room.until_received("already here")


@pytest.mark.parametrize("version", ["1", "6", "10", "12"])
async def test_the_members_come_later(server: RunningServer, peer: Peer, version: str) -> None:
    room = PartialRoom(peer, version)
    for localpart in ("ann", "ben", "cleo"):
        room.member(localpart)
    room.serve()
    alice = await server.user("alice")
    await join(alice, room)
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    state = await alice.get(f"/rooms/{quote(room.room_id)}/state")
    shown = {(event["type"], event["state_key"]): event["event_id"] for event in state}
    assert shown == room.state


async def test_who_asks_for_the_members_waits_for_them(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    path = f"/rooms/{quote(room.room_id)}"
    ann = f"@ann:{room.peer.server_name}"
    asked = [
        asyncio.ensure_future(alice.joined_members(room.room_id)),
        asyncio.ensure_future(alice.get(f"{path}/members")),
        asyncio.ensure_future(alice.get(f"{path}/state")),
        asyncio.ensure_future(alice.state(room.room_id, "m.room.member", ann)),
    ]
    await alice.state(room.room_id, "m.room.name")  # which needs no members
    assert not any(one.done() for one in asked)
    room.told.set()
    listed, chunk, state, member = await asyncio.gather(*asked)
    assert listed == members(room, alice.user_id)
    assert {e["state_key"] for e in chunk["chunk"]} == listed
    assert {e["state_key"] for e in state if e["type"] == "m.room.member"} == listed
    assert member["displayname"] == "ann"


async def test_who_has_waited_long_enough_is_told_so(
    server: RunningServer, room: PartialRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_rooms, "PATIENCE_SECONDS", 0.05)
    alice = await server.user("alice")
    await join(alice, room)
    refused = await refusal(alice.joined_members(room.room_id))
    assert (refused.status, "who is in it" in refused.body["error"]) == (503, True)


async def test_who_does_not_load_members_lazily_is_told_of_the_whole_room(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await alice.sync()
    await join(alice, room)
    assert joined(await alice.sync(), room) is None
    await alice.send(room.room_id, "hello")
    assert joined(await alice.sync(), room) is None
    room.told.set()
    answer = await alice.sync_until(lambda answer: answer if joined(answer, room) else None)
    assert members_shown(answer, room) == members(room, alice.user_id)
    assert bodies(timeline(answer, room.room_id)) == ["hello"]
    assert joined(answer, room)["summary"]["m.joined_member_count"] == 5


async def test_who_loads_members_lazily_is_told_how_many_there_are(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await lazy_member(server, room)
    room.told.set()
    counts = await alice.sync_until(
        lambda answer: joined(answer, room) and joined(answer, room).get("summary"), filter=LAZILY
    )
    assert counts["m.joined_member_count"] == 5


async def test_whose_devices_are_to_be_followed_is_told_with_the_members(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await lazy_member(server, room)
    room.told.set()
    ann = f"@ann:{room.peer.server_name}"
    await alice.sync_until(
        lambda answer: ann in answer.get("device_lists", {}).get("changed", []), filter=LAZILY
    )


async def test_a_member_who_is_not_known_yet_speaks(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await lazy_member(server, room)
    event = room.by("ann", "hello from ann")
    assert await room.send(event) == {event.event_id: {}}
    answer = await alice.sync(filter=LAZILY)
    assert bodies(timeline(answer, room.room_id)) == ["hello from ann"]
    assert f"@ann:{room.peer.server_name}" in members_shown(answer, room)
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    shown = await alice.event(room.room_id, event.event_id)
    assert shown["content"]["body"] == "hello from ann"


async def test_a_member_who_is_not_known_yet_leaves(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    event = room.member("ben", "leave")
    assert await room.send(event) == {event.event_id: {}}
    topic = await room.say("and on")
    room.told.set()
    ben = f"@ben:{room.peer.server_name}"
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id) - {ben}
    shown = await alice.event(room.room_id, event.event_id)
    assert shown["unsigned"]["prev_content"]["membership"] == "join"
    assert (await alice.event(room.room_id, topic.event_id))["sender"] == room.user_id


async def test_what_a_banned_user_said_meanwhile_is_taken_back(
    server: RunningServer, peer: Peer
) -> None:
    """By the events that it cites their user is in the room; by the whole state they are not."""
    room = PartialRoom(peer)
    mallory = room.member("mallory")
    room.member("ann")
    room.member("mallory", "ban")
    room.serve()
    room.told.clear()
    alice = await server.user("alice")
    await alice.sync(filter=LAZILY)
    await join(alice, room)
    standing = room.state["m.room.member", f"@mallory:{peer.server_name}"]
    room.state["m.room.member", f"@mallory:{peer.server_name}"] = mallory.event_id
    forged = room.by("mallory", "I am still here")
    room.state["m.room.member", f"@mallory:{peer.server_name}"] = standing
    assert await room.send(forged) == {forged.event_id: {}}
    answer = await alice.sync(filter=LAZILY)
    assert "I am still here" in bodies(timeline(answer, room.room_id))
    kept = await alice.send(room.room_id, "hello")
    await room.until_received("hello")
    last = await room.say("goodbye")
    room.told.set()
    ann = f"@ann:{peer.server_name}"
    assert await alice.joined_members(room.room_id) == {room.user_id, ann, alice.user_id}
    answer = await alice.sync_until(
        lambda answer: "goodbye" in str(answer) and answer, filter=LAZILY
    )
    assert await refused_event(alice, room, forged.event_id)
    page = await alice.messages(room.room_id)
    assert bodies(page["chunk"]) == ["goodbye", "hello"]
    for event_id in (kept, last.event_id):
        await alice.event(room.room_id, event_id)
    assert await alice.send(room.room_id, "and on")


async def test_what_was_refused_by_what_was_not_true_is_let_in(
    server: RunningServer, peer: Peer
) -> None:
    """We are told that Ann has left; by the whole state she is there, and what she said counts."""
    room = PartialRoom(peer)
    room.member("ann")
    room.heroes = [room.member("ann", "leave").event_id]
    room.member("ann")
    room.serve()
    room.told.clear()
    alice = await lazy_member(server, room)
    said = room.by("ann", "I am here")
    assert await room.send(said) == {said.event_id: {}}
    assert await refused_event(alice, room, said.event_id)
    room.told.set()
    await alice.sync_until(lambda answer: "I am here" in str(answer), filter=LAZILY)
    assert bodies((await alice.messages(room.room_id))["chunk"]) == ["I am here"]


async def test_what_is_taken_back_is_received_anew_after_a_crash_too(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = PartialRoom(peer)
    mallory = room.member("mallory")
    banned = room.member("mallory", "ban")
    room.serve()
    room.told.clear()
    alice = await server.user("alice")
    await join(alice, room)
    room.state[mallory.key] = mallory.event_id
    forged = room.by("mallory", "I am still here")
    room.state[mallory.key] = banned.event_id
    assert await room.send(forged) == {forged.event_id: {}}
    await alice.send(room.room_id, "hello")
    await room.until_received("hello")
    room.told.set()

    async def nothing(incoming: Incoming, rows: object) -> None:
        """The server dies before it gets there."""

    with monkeypatch.context() as crash:
        crash.setattr(Incoming, "again", nothing)
        assert await alice.joined_members(room.room_id) == {room.user_id, alice.user_id}
        assert bodies((await alice.messages(room.room_id))["chunk"]) == []
        await server.stop()
    await server.start()
    server.moved(alice)
    peer.url = server.url

    async def is_there() -> bool:
        return bodies((await alice.messages(room.room_id))["chunk"]) == ["hello"]

    await until(is_there)


async def refused_event(client: Client, room: PartialRoom, event_id: str) -> bool:
    refused = await refusal(client.event(room.room_id, event_id))
    return refused.status == 404


async def test_it_goes_on_after_a_restart(server: RunningServer, room: PartialRoom) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    await alice.send(room.room_id, "before")
    await server.restart()
    server.moved(alice)
    room.peer.url = server.url
    await alice.send(room.room_id, "after")
    assert joined(await alice.sync(), room) is None
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    answer = await alice.sync_until(lambda answer: answer if joined(answer, room) else None)
    assert bodies(timeline(answer, room.room_id)) == ["before", "after"]


async def test_who_we_were_told_of_gets_what_is_sent_after_an_outage(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    room.is_deaf = True
    await alice.send(room.room_id, "nobody listens")
    await alice.another_device()
    await server.restart()
    server.moved(alice)
    room.peer.url = server.url
    room.is_deaf = False
    await room.send(room.by("ann", "I am back"))
    await room.until_received("nobody listens")

    async def is_told_of_the_device() -> bool:
        return "m.device_list_update" in [edu["edu_type"] for edu in room.edus]

    await until(is_told_of_the_device)


async def test_another_server_is_asked_if_the_first_does_not_know(
    server: RunningServer, room: PartialRoom, start_peer: StartPeer
) -> None:
    other = await start_peer(server)
    room.serve(other)
    room.told.set()
    room.servers.append(other.server_name)
    for path in ("state_ids", "state"):
        room.peer.answer("GET", f"{V1}/{path}/", {"errcode": "M_FORBIDDEN", "error": "?"}, 403)
    alice = await server.user("alice")
    await join(alice, room)
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    assert other.asked(f"{V1}/state_ids/") == 1


async def test_who_does_not_tell_is_asked_again(
    server: RunningServer, room: PartialRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "BACKOFF_SECONDS", Backoff(0.05, 1.0))
    alice = await server.user("alice")
    room.peer.answer("GET", f"{V1}/state_ids/", {"pdu_ids": "none"})
    await join(alice, room)
    async with asyncio.timeout(10):
        while not room.peer.asked(f"{V1}/state_ids/"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    room.serve()
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)


def without_create(state: State) -> State:
    return {key: e for key, e in state.items() if key[0] != "m.room.create"}


def of_nobody(state: State) -> State:
    return {}


@pytest.mark.parametrize("lie", [without_create, of_nobody])
async def test_a_state_that_can_not_be_is_not_taken(
    server: RunningServer, room: PartialRoom, start_peer: StartPeer, lie: Any
) -> None:
    honest = await start_peer(server)
    room.serve(honest)
    room.serve(room.peer, lie)
    room.servers.append(honest.server_name)
    room.told.set()
    alice = await server.user("alice")
    await join(alice, room)
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)


async def test_a_state_by_which_we_were_not_let_in_is_not_taken(
    server: RunningServer, room: PartialRoom, start_peer: StartPeer
) -> None:
    """The creator has banned our user, says the peer; another server knows nothing of that."""
    alice = await server.user("alice")
    ban = room.make("m.room.member", {"membership": "ban"}, state_key=alice.user_id)
    room.events[ban.event_id] = ban
    honest = await start_peer(server)
    room.serve(honest)
    room.serve(room.peer, lambda state: {**state, ban.key: ban.event_id})
    room.servers.append(honest.server_name)
    room.told.set()
    await join(alice, room)
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    assert honest.asked(f"{V1}/state_ids/") == 1


async def test_most_of_a_state_has_to_be_valid(
    server: RunningServer, peer: Peer, start_peer: StartPeer
) -> None:
    """The peer invents members whose events nobody has allowed."""
    room = PartialRoom(peer)
    power = room.state["m.room.power_levels", ""]
    honest = await start_peer(server)
    room.serve(honest)
    forged = {}
    for number in range(20):
        sender = f"@forged{number}:{peer.server_name}"
        more = {"auth_events": [power], "state_key": sender, "sender": sender}
        event = room.make("m.room.member", {"membership": "join"}, **more)
        room.events[event.event_id] = event
        forged[event.key] = event.event_id
    room.serve(peer, lambda state: {**state, **forged})
    room.servers.append(honest.server_name)
    alice = await server.user("alice")
    await join(alice, room)
    assert await alice.joined_members(room.room_id) == {room.user_id, alice.user_id}


async def test_a_big_state_is_told_in_one_answer(server: RunningServer, peer: Peer) -> None:
    room = PartialRoom(peer)
    for number in range(60):
        room.member(f"m{number}")
    room.serve()
    alice = await server.user("alice")
    await join(alice, room)
    assert len(await alice.joined_members(room.room_id)) == 62
    assert peer.asked(f"{V1}/state/") == 1
    assert peer.asked(f"{V1}/event/") == 0


async def test_a_big_room_is_entered_before_all_that_was_told_is_checked(
    server: RunningServer, peer: Peer
) -> None:
    """The peer leaves nobody out."""
    room = PartialRoom(peer)
    for number in range(310):
        room.member(f"m{number}")
    room.omits = False
    room.serve()
    alice = await server.user("alice")
    await join(alice, room)
    assert server.app is not None
    live = await server.app.stream.rooms.get(room.room_id)
    assert live is not None and live.entry is not None
    assert len(await alice.joined_members(room.room_id)) == 312
    assert (peer.asked(f"{V1}/state_ids/"), peer.asked(f"{V1}/state/")) == (0, 0)
    state = await alice.get(f"/rooms/{quote(room.room_id)}/state")
    assert {(e["type"], e["state_key"]): e["event_id"] for e in state} == room.state


async def test_states_of_that_time_are_completed(server: RunningServer, room: PartialRoom) -> None:
    """Also those that were written whole, because differences would have been longer."""
    alice = await server.user("alice")
    await join(alice, room)
    topics = [room.put("m.room.topic", {"topic": f"topic {number}"}) for number in range(30)]
    await room.send(*topics)
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    for topic in (topics[1], topics[14], topics[29]):
        path = f"{V1}/state_ids/{quote(room.room_id)}?event_id={quote(topic.event_id)}"
        status, answer = await room.peer.request("GET", path)
        assert status == 200
        joins = {room.state["m.room.member", user] for user in members(room, alice.user_id)}
        assert joins < set(answer["pdu_ids"])
    await server.restart()
    server.moved(alice)
    state = await alice.get(f"/rooms/{quote(room.room_id)}/state")
    assert {(e["type"], e["state_key"]): e["event_id"] for e in state} == room.state


async def test_a_fork_of_that_time_stays_resolved(server: RunningServer, room: PartialRoom) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    base = list(room.heads)
    left = room.make("m.room.topic", {"topic": "left"}, state_key="", prev_events=base)
    right = room.make("m.room.topic", {"topic": "right"}, state_key="", prev_events=base)
    await room.send(left, right)
    for event in (left, right):
        room.add(event)
    room.heads = [left.event_id, right.event_id]
    merge = await room.say("merged")
    before = await alice.state(room.room_id, "m.room.topic")
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    assert await alice.state(room.room_id, "m.room.topic") == before
    assert (await alice.event(room.room_id, merge.event_id))["content"]["body"] == "merged"
    path = f"{V1}/state_ids/{quote(room.room_id)}?event_id={quote(merge.event_id)}"
    status, answer = await room.peer.request("GET", path)
    assert status == 200
    assert room.state["m.room.member", room.user_id] in answer["pdu_ids"]


async def test_an_event_beside_our_join_has_the_state_that_it_had(
    server: RunningServer, room: PartialRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It follows what we lack, so its state is asked for, also while we wait for ours."""
    monkeypatch.setattr(catch_up, "MEMBERS_SECONDS", 0.05)
    first = room.by("ann", "before you came")
    alice = await server.user("alice")
    await join(alice, room)
    beside = room.message("beside", prev_events=[first.event_id])
    room.peer.answer("POST", f"{V1}/get_missing_events/", {"events": [first.pdu]})
    assert await room.send(beside) == {beside.event_id: {}}
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    path = f"{V1}/state_ids/{quote(room.room_id)}?event_id={quote(beside.event_id)}"
    status, answer = await room.peer.request("GET", path)
    assert (status, set(answer["pdu_ids"])) == (200, set(room.before[first.event_id].values()))
    answer = await (await alice.another_device()).sync(filter=LAZILY)
    assert members_shown(answer, room) == {room.user_id, alice.user_id}
    answer = await (await alice.another_device()).sync()
    assert members_shown(answer, room) == members(room, alice.user_id)
    state = await alice.get(f"/rooms/{quote(room.room_id)}/state")
    assert {(e["type"], e["state_key"]): e["event_id"] for e in state} == room.state


async def test_who_was_told_what_was_not_true_starts_afresh(
    server: RunningServer, peer: Peer
) -> None:
    room = PartialRoom(peer)
    room.heroes = [room.member("ann").event_id]
    room.member("ann", "leave")
    room.serve()
    room.told.clear()
    alice = await lazy_member(server, room)
    said = await alice.send(room.room_id, "hello")
    await alice.sync(filter=LAZILY)
    room.told.set()
    again = await alice.sync_until(lambda answer: joined(answer, room), filter=LAZILY)
    assert again["timeline"]["limited"]
    assert said in [event["event_id"] for event in again["timeline"]["events"]]
    assert await alice.joined_members(room.room_id) == {room.user_id, alice.user_id}


async def test_leaving_stops_it_and_joining_begins_anew(
    server: RunningServer, room: PartialRoom
) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    waiting = asyncio.ensure_future(alice.get(f"/rooms/{quote(room.room_id)}/members"))
    await alice.state(room.room_id, "m.room.name")
    await alice.leave(room.room_id)
    known = {event["state_key"] for event in (await waiting)["chunk"]}
    assert known == {alice.user_id}
    await join(alice, room)
    room.told.set()
    assert await alice.joined_members(room.room_id) == members(room, alice.user_id)
    answer = await alice.sync_until(lambda answer: answer if joined(answer, room) else None)
    assert members_shown(answer, room) == members(room, alice.user_id)


async def test_nobody_is_let_in_by_us_meanwhile(server: RunningServer, room: PartialRoom) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    path = f"{V1}/make_join/{quote(room.room_id)}/{quote(room.user_id)}?ver=11"
    status, answer = await room.peer.request("GET", path)
    assert (status, answer["errcode"]) == (400, "M_UNABLE_TO_GRANT_JOIN")
    event = room.message("no join")
    path = f"{V2}/send_join/{quote(room.room_id)}/{quote(event.event_id)}"
    status, answer = await room.peer.request("PUT", path, event.pdu)
    assert (status, answer["errcode"]) == (400, "M_UNABLE_TO_GRANT_JOIN")
    path = f"{V1}/state_ids/{quote(room.room_id)}?event_id={quote(room.heads[0])}"
    status, answer = await room.peer.request("GET", path)
    assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


async def test_another_of_our_users_joins_meanwhile(
    server: RunningServer, room: PartialRoom
) -> None:
    alice, carol = await server.user("alice"), await server.user("carol")
    await join(alice, room)
    await join(carol, room)
    await carol.send(room.room_id, "two of us")
    room.told.set()
    both = members(room, alice.user_id, carol.user_id)
    assert await alice.joined_members(room.room_id) == both
    answer = await carol.sync_until(lambda answer: answer if joined(answer, room) else None)
    assert bodies(timeline(answer, room.room_id)) == ["two of us"]


async def test_who_is_kicked_must_be_known(server: RunningServer, peer: Peer) -> None:
    alice = await server.user("alice")
    room = PartialRoom(peer)
    room.member("ann")
    users = {room.user_id: 100, alice.user_id: 50}
    room.put("m.room.power_levels", {"users": users})
    room.serve()
    room.told.clear()
    await join(alice, room)
    ann = f"@ann:{peer.server_name}"
    kick = asyncio.ensure_future(alice.kick(room.room_id, ann))
    nobody = asyncio.ensure_future(refusal(alice.kick(room.room_id, f"@x:{peer.server_name}")))
    await alice.send(room.room_id, "wait for it")
    assert not kick.done() and not nobody.done()
    room.told.set()
    await kick
    assert (await nobody).status == 403
    assert await alice.joined_members(room.room_id) == {room.user_id, alice.user_id}


async def test_sliding_sync_has_the_room_at_once(server: RunningServer, room: PartialRoom) -> None:
    alice = await server.user("alice")
    await join(alice, room)
    path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    required = [["m.room.name", ""], ["m.room.member", "$LAZY"]]
    asked = {"ranges": [[0, 9]], "required_state": required, "timeline_limit": 5}
    body = {"lists": {"all": asked}}
    answer = await alice.post(path, body)
    assert answer["rooms"][room.room_id]["name"] == "far away"
    room.told.set()
    answer = await alice.post(path, body, pos=answer["pos"], timeout="10000")
    while room.room_id not in answer["rooms"]:
        answer = await alice.post(path, body, pos=answer["pos"], timeout="10000")
    assert answer["rooms"][room.room_id]["joined_count"] == 5
    assert "initial" not in answer["rooms"][room.room_id]


async def test_two_servers_of_ours_have_the_same_room(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="big")
    others = [await one.user() for _ in range(8)]
    for other in others:
        await other.join(room_id)
    await others[0].leave(room_id)
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    event_id = await bob.send(room_id, "so soon")
    await alice.sync_until_event(room_id, event_id)
    path = f"/rooms/{quote(room_id)}/state"
    there, here = await alice.get(path), await bob.get(path)
    by_key = [{(e["type"], e["state_key"]): e["event_id"] for e in s} for s in (there, here)]
    assert by_key[0] == by_key[1]
    assert await bob.joined_members(room_id) == await alice.joined_members(room_id)
