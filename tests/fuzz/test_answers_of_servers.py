"""A hostile server's answers to what our users want of it: no 5xx of ours, nothing logged as our
error, and answers to our clients as specified. FUZZ_SEED repeats a run, FUZZ_CASES asks more often.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.remote import hierarchy, key_fetcher
from homeserver.services import remote_profiles
from tests.federation.conftest import authority, peer, server, start_peer
from tests.fuzz.test_server_server_api import (
    CASES,
    SEED,
    device_keys,
    mutated,
    without_errors,
)
from tests.support import specification
from tests.support.client import Client, Refused
from tests.support.hosted_room import HostedRoom
from tests.support.peer import Answer, Peer
from tests.support.remote_room import V1, V2
from tests.support.server import RunningServer

__all__ = ["authority", "peer", "server", "start_peer"]

OURS = frozenset((500, 503))
"""What no client may be told: the fault is the other server's."""
Ask = Callable[[], Awaitable[Any]]


def lying(random: Random, answer: Answer) -> Answer:
    """The answer, with something in it changed."""

    async def lie(request: web.Request) -> web.StreamResponse:
        response = await answer(request)
        assert isinstance(response, web.Response) and isinstance(response.body, bytes)
        body = json.loads(response.body)
        if "auth_chain" in body and random.random() < 0.5:
            body |= {"members_omitted": True, "servers_in_room": ["a.test", "b.test:1"]}
        return web.json_response(mutated(random, body))

    return lie


def lie_from_now_on(random: Random, peer: Peer, kept: tuple[str, ...] = ()) -> None:
    """All answers are changed, but for those whose paths begin so."""
    peer._answers[:] = [
        (method, path, answer if path.startswith(kept) else lying(random, answer))
        for method, path, answer in peer._answers
    ]


async def tried(request: Awaitable[Any]) -> None:
    try:
        await request
    except Refused as refused:
        assert refused.status not in OURS, refused.body


def summary(room_id: str) -> JsonObject:
    return {
        "room_id": room_id,
        "name": "far",
        "num_joined_members": 3,
        "world_readable": True,
        "guest_can_join": False,
        "join_rule": "public",
        "room_type": "m.space",
        "allowed_room_ids": [room_id],
    }


def told_by(peer: Peer, room_id: str, bob: str) -> None:
    """The peer answers as it should."""
    keys = device_keys(bob)
    key = {"user_id": bob, "usage": ["master"], "keys": {"ed25519:" + "m" * 43: "m" * 43}}
    device = {"device_id": "PHONE", "keys": keys, "device_display_name": "Phone"}
    devices = {"user_id": bob, "stream_id": 4, "devices": [device], "master_key": key}
    claimed = {"PHONE": {"signed_curve25519:1": {"key": "x", "signatures": {}}}}
    rooms = {"chunk": [summary(room_id)], "next_batch": "x", "total_room_count_estimate": 1}
    child = {
        "type": "m.space.child",
        "state_key": room_id,
        "sender": bob,
        "content": {"via": [peer.server_name], "order": "x"},
        "origin_server_ts": 1,
    }
    space = {**summary(room_id), "children_state": [child]}
    tree = {"room": space, "children": [summary(room_id)], "inaccessible_children": []}
    profile = {"displayname": "Bob", "avatar_url": "mxc://a/b", "m.tz": "Europe/Berlin"}
    answers: list[tuple[str, str, JsonObject]] = [
        ("GET", f"{V1}/query/profile", profile),
        ("GET", f"{V1}/query/directory", {"room_id": room_id, "servers": [peer.server_name]}),
        ("GET", f"{V1}/publicRooms", rooms),
        ("POST", f"{V1}/publicRooms", rooms),
        ("GET", f"{V1}/hierarchy/", tree),
        ("GET", f"{V1}/user/devices/", devices),
        ("POST", f"{V1}/user/keys/query", {"device_keys": {bob: {"PHONE": keys}}}),
        ("POST", f"{V1}/user/keys/claim", {"one_time_keys": {bob: claimed}}),
    ]
    for method, path, answer in answers:
        peer.answer(method, path, answer)


async def test_no_answer_to_a_question_is_our_fault(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers to our clients are held against the specification, too."""
    monkeypatch.setattr(specification, "JUDGES", True)
    monkeypatch.setattr(hierarchy, "SECONDS", 0.0)
    monkeypatch.setattr(remote_profiles, "SECONDS", 0.0)
    alice, bob = await server.user(), f"@bob:{peer.server_name}"
    room_id, name = f"!room:{peer.server_name}", peer.server_name
    told_by(peer, room_id, bob)
    lie_from_now_on(Random(SEED), peer)
    space = await alice.create_room(creation_content={"type": "m.space"})
    await alice.set_state(space, "m.space.child", {"via": [name]}, room_id)
    search = {"filter": {"generic_search_term": "x"}}
    one_time = {"one_time_keys": {bob: {"PHONE": "signed_curve25519"}}}
    asks: list[Ask] = [
        lambda: alice.get(f"/profile/{bob}"),
        lambda: alice.get(f"/profile/{bob}/displayname"),
        lambda: alice.get(f"/directory/room/{quote(f'#x:{name}', '')}"),
        lambda: alice.get("/publicRooms", server=name),
        lambda: alice.post("/publicRooms", search, server=name),
        lambda: alice.get(f"/_matrix/client/v1/rooms/{quote(space, '')}/hierarchy"),
        lambda: alice.get(f"/_matrix/client/v1/room_summary/{quote(room_id, '')}", via=name),
        lambda: alice.post("/keys/query", {"device_keys": {bob: []}}),
        lambda: alice.post("/keys/claim", one_time),
    ]
    with without_errors():
        for _ in range(3 * CASES):
            for ask in asks:
                await tried(ask())


async def enter(alice: Client, random: Random, room: HostedRoom) -> None:
    """Join, speak, read the past, knock, take an invite: all of it answered with lies."""
    peer, room_id = room.peer, quote(room.room_id, "")
    known = list(room.events.values())
    pdus = {"origin": peer.server_name, "pdus": [event.pdu for event in known]}
    chain = [event.event_id for event in known]
    gap = room.message("unsent")
    told: list[tuple[str, str, JsonObject]] = [
        ("GET", f"{V1}/backfill/", pdus),
        ("GET", f"{V1}/event/", pdus),
        ("GET", f"{V1}/event_auth/", {"auth_chain": pdus["pdus"]}),
        ("GET", f"{V1}/state/", {"pdus": pdus["pdus"], "auth_chain": pdus["pdus"]}),
        ("GET", f"{V1}/state_ids/", {"pdu_ids": chain, "auth_chain_ids": chain}),
        ("POST", f"{V1}/get_missing_events/", {"events": [gap.pdu]}),
        ("GET", f"{V1}/timestamp_to_event/", {"event_id": chain[0], "origin_server_ts": 1}),
        ("GET", f"{V1}/make_knock/", room.template(alice.user_id, "knock")),
        ("PUT", f"{V1}/send_knock/", {"knock_room_state": pdus["pdus"]}),
        ("GET", f"{V1}/make_leave/", room.template(alice.user_id, "leave")),
        ("PUT", f"{V2}/send_leave/", {}),
    ]
    for method, path, answer in told:
        peer.answer(method, path, answer)
    kept = random.choice(((), (f"{V1}/make_",), (f"{V1}/make_", f"{V2}/send_join")))
    lie_from_now_on(random, peer, kept)
    await tried(alice.request("POST", f"/knock/{room_id}", {}, query={"via": peer.server_name}))
    await tried(alice.request("POST", f"/join/{room_id}", {}, query={"via": peer.server_name}))
    room.add(gap)
    await room.try_send(room.message("after the gap"))
    await tried(alice.get(f"/rooms/{room_id}/messages", dir="b"))
    path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event"
    await tried(alice.get(path, ts="1", dir="f"))
    await tried(alice.post(f"/rooms/{room_id}/leave"))


async def test_no_answer_about_a_room_is_our_fault(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user()
    random = Random(SEED)
    with without_errors():
        for _ in range(2 * CASES):
            peer._answers.clear()
            await enter(alice, random, HostedRoom(peer, join_rule="public"))


async def test_no_answer_to_an_invite_is_our_fault(server: RunningServer, peer: Peer) -> None:
    alice, bob = await server.user(), f"@bob:{peer.server_name}"
    room_id = await alice.create_room()

    async def signed(request: web.Request) -> web.StreamResponse:
        return web.json_response({"event": json.loads(await request.read())["event"]})

    peer.answer("PUT", f"{V2}/invite/", signed)
    lie_from_now_on(Random(SEED), peer)
    with without_errors():
        for number in range(2 * CASES):
            await tried(alice.invite(room_id, bob.replace("bob", f"bob{number}")))


async def test_no_keys_that_a_server_shows_are_our_fault(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_fetcher, "ASK_AGAIN_MS", 0)
    random = Random(SEED)

    async def keys(request: web.Request) -> web.StreamResponse:
        return web.json_response(peer.published_keys())

    peer.answer("GET", "/_matrix/key/v2/server", keys)
    lie_from_now_on(random, peer)
    client = server.anonymous()
    with without_errors():
        for _ in range(4 * CASES):
            await tried(client.get(f"/_matrix/key/v2/query/{peer.server_name}"))
            status, _ = await peer.request("GET", f"{V1}/publicRooms")
            assert status in (200, 401)
