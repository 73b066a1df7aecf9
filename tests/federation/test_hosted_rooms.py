"""Rooms of a peer's own, which it may tell us odd things about."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.protocol.events import parse_event, sign_pdu
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.federation.test_gaps import serve, unsent
from tests.federation.test_receiving import is_shown
from tests.support.client import Client, bodies, refusal
from tests.support.encryption import Device
from tests.support.hosted_room import HostedRoom
from tests.support.media import eventually
from tests.support.peer import Peer
from tests.support.ports import free_ports
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer

V1 = "/_matrix/federation/v1"
TOO_LONG_IN_BYTES = "ü" * 200
"""As a state key: servers that counted characters let it in once."""


async def enter(server: RunningServer, room: HostedRoom) -> Client:
    """Alice, who joined the peer's room."""
    room.peer.answer("PUT", f"{V1}/send/", {"pdus": {}})
    alice = await server.user("alice")
    await alice.join(room.room_id)
    await alice.sync()
    return alice


def device_list_updates(peer: Peer) -> asyncio.Queue[JsonObject]:
    """The contents of the m.device_list_update EDUs that the peer gets from now on."""
    updates: asyncio.Queue[JsonObject] = asyncio.Queue()

    async def take(request: web.Request) -> web.StreamResponse:
        for edu in json.loads(await request.read())["edus"]:
            if edu["edu_type"] == "m.device_list_update":
                updates.put_nowait(edu["content"])
        return web.json_response({"pdus": {}})

    peer.answer("PUT", f"{V1}/send/", take)
    return updates


def left(answer: Any, room_id: str) -> Any:
    return answer.get("rooms", {}).get("leave", {}).get(room_id)


def is_invited(answer: Any, room_id: str) -> bool:
    return room_id in answer.get("rooms", {}).get("invite", {})


async def test_a_room_is_joined_though_some_of_its_state_cannot_be_verified(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    [nobody] = free_ports(1)
    unsigned = room.make("m.room.topic", {"topic": "unsigned"}, state_key="").pdu
    unsigned["signatures"] = {}
    gone = room.make("org.test", {}, state_key="", sender=f"@gone:127.0.0.1:{nobody}").pdu
    room.unasked += [unsigned, gone, {"type": "no event at all"}]
    alice = await enter(server, room)
    states = await alice.get(f"/rooms/{room.room_id}/state")
    assert {"m.room.create", "m.room.member"} <= {event["type"] for event in states}
    assert not {"m.room.topic", "org.test"} & {event["type"] for event in states}


async def test_the_state_of_a_room_may_be_told_in_any_order(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    room.newest_first = True
    await enter(server, room)
    for key, event_id in room.state.items():
        path = f"{V1}/event_auth/{quote(room.room_id, '')}/{quote(event_id, '')}"
        status, answer = await peer.request("GET", path)
        assert status == 200
        chain = {parse_event(pdu, ROOM_VERSIONS["11"]).event_id for pdu in answer["auth_chain"]}
        assert chain >= set(room.events[event_id].auth_events), key


async def test_what_is_older_than_our_join_is_no_news(server: RunningServer, peer: Peer) -> None:
    room = HostedRoom(peer)
    old = unsent(room, 2)
    alice = await enter(server, room)
    await room.say("new")
    assert await room.send(*old) == {event.event_id: {} for event in old}
    await room.say("newer")
    timeline = (await alice.sync())["rooms"]["join"][room.room_id]["timeline"]
    assert bodies(timeline["events"]) == ["new", "newer"]
    page = await alice.messages(room.room_id)
    assert bodies(page["chunk"]) == ["newer", "new", "unsent 1", "unsent 0"]


async def test_a_fork_from_before_our_join_is_built_on(server: RunningServer, peer: Peer) -> None:
    """get_missing_events tells of history that we have, but whose state we don't know."""
    room = HostedRoom(peer)
    [*_, old] = unsent(room, 2)
    alice = await enter(server, room)
    serve(peer, room)
    await room.send(*(e for e in room.events.values() if e.type == "m.room.message"))
    unheard = room.message("unheard", prev_events=[old.event_id])
    room.add(unheard)
    fork = room.message("fork", prev_events=[unheard.event_id])
    room.add(fork)
    await room.send(fork)
    assert await is_shown(alice, room, fork.event_id)
    assert await is_shown(alice, room, unheard.event_id)


async def test_an_event_may_follow_one_whose_state_key_is_too_long_in_bytes(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    alice = await enter(server, room)
    serve(peer, room)
    before = dict(room.state)
    pdu = {**room.make("org.test.old", {}, state_key="").pdu, "state_key": TOO_LONG_IN_BYTES}
    unsigned = {key: value for key, value in pdu.items() if key not in ("hashes", "signatures")}
    old = sign_pdu(unsigned, ROOM_VERSIONS[room.version], peer.signer)
    room.add(old)
    room.state = before
    event = await room.say("after it")
    assert await is_shown(alice, room, event.event_id)
    assert not await is_shown(alice, room, old.event_id)


async def test_what_a_server_keeps_back_is_not_asked_for_again(
    server: RunningServer, peer: Peer
) -> None:
    """get_missing_events does not give what came right before the event that it sent."""
    room = HostedRoom(peer)
    alice = await enter(server, room)
    serve(peer, room, missing_events=False)
    unsent(room, 1)
    event = room.message("of unknown descent")
    peer.answer("POST", f"{V1}/get_missing_events", {"events": []})
    assert await room.send(event) == {event.event_id: {}}
    assert not await is_shown(alice, room, event.event_id)
    assert peer.asked(f"{V1}/get_missing_events") == 1
    assert peer.asked(f"{V1}/state_ids/") == 0


async def test_what_is_missing_before_a_missing_event_is_jumped_over(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    alice = await enter(server, room)
    serve(peer, room, missing_events=False)
    [hidden, told] = unsent(room, 2)
    event = room.message("after a gap")
    peer.answer("POST", f"{V1}/get_missing_events", {"events": [told.pdu]})
    assert await room.send(event) == {event.event_id: {}}
    assert await is_shown(alice, room, event.event_id)
    assert await is_shown(alice, room, told.event_id)
    assert peer.asked(f"{V1}/get_missing_events") == 1
    assert peer.asked(f"{V1}/state_ids/") == 1
    assert not await is_shown(alice, room, hidden.event_id)


async def test_a_room_of_a_version_that_we_lack_is_told_as_such(
    server: RunningServer, peer: Peer
) -> None:
    alice = await server.user("alice")
    refused = {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "?", "room_version": "org.new"}
    peer.answer("GET", f"{V1}/make_join/", refused, status=400)
    room_id = f"!new:{peer.server_name}"
    refused_by = await refusal(alice.join(room_id))
    assert (refused_by.status, refused_by.errcode) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert refused_by.body["room_version"] == "org.new"


async def test_servers_that_a_user_meets_are_told_of_their_devices(
    server: RunningServer, peer: Peer
) -> None:
    alice = await server.user("alice")
    await Device(alice).upload()
    phone = await alice.another_device()
    updates = device_list_updates(peer)
    room = HostedRoom(peer)
    await alice.join(room.room_id)
    told = [await asyncio.wait_for(updates.get(), 10) for _ in range(2)]
    assert {update["device_id"] for update in told} == {alice.device_id, phone.device_id}
    assert [update["prev_id"] for update in told] == [[], []]
    assert ["keys" in update for update in told] == [True, False]

    await alice.join(HostedRoom(peer).room_id)  # no stranger any more
    await phone.put(f"/devices/{phone.device_id}", {"display_name": "Phone"})
    update = await asyncio.wait_for(updates.get(), 10)
    assert (update["device_id"], update["prev_id"]) == (phone.device_id, [told[-1]["stream_id"]])


async def test_a_server_that_was_away_is_told_of_the_devices_after_a_restart_too(
    server: RunningServer, peer: Peer
) -> None:
    alice = await server.user("alice")
    room = HostedRoom(peer)
    peer.answer("PUT", f"{V1}/send/", {}, status=500)
    await alice.join(room.room_id)
    await eventually(lambda: bool(peer.asked(f"{V1}/send/")))
    await server.restart()
    peer.url = server.url
    updates = device_list_updates(peer)
    await room.send()  # it calls us: it is back
    update = await asyncio.wait_for(updates.get(), 10)
    assert (update["user_id"], update["device_id"]) == (alice.user_id, alice.device_id)


async def test_a_user_accepts_the_invite_of_a_peer(server: RunningServer, peer: Peer) -> None:
    room = HostedRoom(peer, join_rule="invite")
    alice = await server.user("alice")
    await room.invite(alice.user_id)
    await alice.join(room.room_id)
    assert alice.user_id in await alice.joined_members(room.room_id)


@pytest.mark.parametrize("peer_helps", [True, False])
async def test_who_rejects_an_invite_is_shown_that_they_left(
    server: RunningServer, peer: Peer, peer_helps: bool
) -> None:
    room = HostedRoom(peer, join_rule="invite")
    alice = await server.user("alice")
    await room.invite(alice.user_id)
    assert is_invited(await alice.sync(), room.room_id)
    if peer_helps:
        peer.answer("GET", f"{V1}/make_leave/", room.template(alice.user_id, "leave"))
        peer.answer("PUT", "/_matrix/federation/v2/send_leave/", {})
    await alice.leave(room.room_id)
    shown = left(await alice.sync(), room.room_id)
    [event] = shown["timeline"]["events"]
    assert (event["state_key"], event["content"]["membership"]) == (alice.user_id, "leave")
    assert peer.asked("/_matrix/federation/v2/send_leave/") == int(peer_helps)
    assert not is_invited(await alice.get("/sync"), room.room_id)


async def test_only_who_invited_takes_the_invite_back(server: RunningServer, peer: Peer) -> None:
    room = HostedRoom(peer, join_rule="invite")
    alice = await server.user("alice")
    await room.invite(alice.user_id)
    kick = {"membership": "leave"}
    others = {"sender": f"@carol:{peer.server_name}", "state_key": alice.user_id}
    await room.send(room.make("m.room.member", kick, **others))
    assert is_invited(await alice.get("/sync"), room.room_id)
    await alice.sync()
    taken_back = room.make("m.room.member", kick, state_key=alice.user_id)
    await room.send(taken_back)
    shown = await alice.sync_until(lambda answer: left(answer, room.room_id))
    assert [e["event_id"] for e in shown["timeline"]["events"]] == [taken_back.event_id]


async def test_a_server_that_takes_no_transactions_is_still_asked(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    alice = await enter(server, room)
    serve(peer, room)
    peer.answer("PUT", f"{V1}/send/", {"errcode": "M_UNRECOGNIZED", "error": "?"}, status=404)
    for number in range(3):
        await alice.send(room.room_id, "do you hear me?")
        unsent(room, 1)
        event = await room.say(f"{number}: no")
        assert await is_shown(alice, room, event.event_id)
    assert peer.asked(f"{V1}/get_missing_events") == 3


@pytest.mark.parametrize("step", ["invite", "send_join", "send_leave"])
async def test_a_number_with_a_fraction_is_bad_json(
    server: RunningServer, peer: Peer, step: str
) -> None:
    alice = await server.user("alice")
    room = HostedRoom(peer, join_rule="invite")
    room_id = room.room_id
    if step == "invite":
        invite = room.make("m.room.member", {"membership": "invite"}, state_key=alice.user_id)
        content = {**invite.pdu["content"], "half": 0.5}
        pdu = {**invite.pdu, "content": content}
        body: JsonObject = {"event": pdu, "room_version": "11", "invite_room_state": []}
    else:
        room_id = await alice.create_room(preset="public_chat", room_version="6")
        user_id = quote(room.user_id, "")
        path = f"{V1}/make_{step.removeprefix('send_')}/{quote(room_id, '')}/{user_id}?ver=6"
        if step == "send_leave":
            await RemoteRoom(peer, room_id, room.user_id).join()
        status, offer = await peer.request("GET", path)
        assert status == 200
        body = {**offer["event"], "origin_server_ts": 1, "depth": 0.5}
    path = f"/_matrix/federation/v2/{step}/{quote(room_id, '')}/%24some-event"
    status, answer = await peer.request("PUT", path, body)
    assert (status, answer["errcode"]) == (400, "M_BAD_JSON")


async def test_missing_events_begin_after_our_join(server: RunningServer, peer: Peer) -> None:
    """Who were told of the join would ask for the state at the event before it."""
    room = HostedRoom(peer)
    unsent(room, 1)
    await enter(server, room)
    [join] = room.heads
    first = await room.say("first")
    second = await room.say("second")
    body = {"earliest_events": [], "latest_events": [second.event_id], "limit": 10}
    path = f"{V1}/get_missing_events/{quote(room.room_id, '')}"
    _, answer = await peer.request("POST", path, body)
    assert [pdu["content"] for pdu in answer["events"]] == [first.pdu["content"]]
    path = f"{V1}/state_ids/{quote(room.room_id, '')}?event_id={quote(first.event_id, '')}"
    _, answer = await peer.request("GET", path)
    assert join in answer["pdu_ids"]


async def test_state_that_was_redacted_during_an_earlier_stay_is_redacted(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    alice = await enter(server, room)
    topic = room.make("m.room.topic", {"topic": "a secret"}, state_key="")
    redaction = room.make("m.room.redaction", {"redacts": topic.event_id})
    assert await room.send(redaction) == {redaction.event_id: {}}
    await alice.leave(room.room_id)
    room.add(topic)
    room.add(redaction)
    await alice.join(room.room_id)
    assert await alice.state(room.room_id, "m.room.topic") == {}


async def test_an_invite_accepted_while_it_is_being_rejected_stays_accepted(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer)
    alice = await server.user("alice")
    await room.invite(alice.user_id)
    await alice.sync_until(lambda answer: is_invited(answer, room.room_id))
    accepted = asyncio.Event()

    async def make_leave(_request: web.Request) -> web.StreamResponse:
        await accepted.wait()
        return web.json_response(room.template(alice.user_id, "leave"))

    peer.answer("GET", f"{V1}/make_leave/", make_leave)
    peer.answer("PUT", "/_matrix/federation/v2/send_leave/", {})
    leaving = asyncio.create_task(alice.leave(room.room_id))
    await eventually(lambda: peer.asked(f"{V1}/make_leave/") > 0)
    await alice.join(room.room_id)
    accepted.set()
    await leaving
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == [room.room_id]
