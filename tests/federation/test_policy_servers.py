"""Rooms with a policy server: it is asked about ours, and others' events need its signature."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from nacl.signing import SigningKey

from homeserver.json_types import JsonObject
from homeserver.protocol.events import add_signature, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signatures import Signer, encode_base64, pdu_message
from tests.federation.test_gaps import serve, unsent
from tests.federation.test_receiving import EVERYBODY_MAY, is_shown, joined_room
from tests.support.client import Client, Refused, bodies
from tests.support.peer import Peer
from tests.support.remote_room import RemoteRoom
from tests.support.server import RunningServer

SIGN = "/_matrix/policy/v1/sign"


class PolicyServer:
    """The peer as the policy server of a room; it dislikes texts with `spam`."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._signer = Signer(peer.server_name, "ed25519:policy_server", SigningKey.generate())
        peer.answer("POST", SIGN, self._sign)

    def content(self) -> JsonObject:
        key = encode_base64(bytes(self._signer.key.verify_key))
        return {"via": self._peer.server_name, "public_keys": {"ed25519": key}}

    async def _sign(self, request: web.Request) -> web.StreamResponse:
        pdu = json.loads(await request.read())
        if "spam" in json.dumps(pdu["content"]):
            refusal = {"errcode": "M_FORBIDDEN", "error": "This looks like spam"}
            return web.json_response(refusal, status=400)
        signature = self._signer.sign(pdu_message(pdu, ROOM_VERSIONS["12"]))
        return web.json_response({self._peer.server_name: {self._signer.key_id: signature}})


async def watched_room(
    server: RunningServer, peer: Peer
) -> tuple[Client, RemoteRoom, PolicyServer]:
    policy = PolicyServer(peer)
    alice, room = await joined_room(server, peer)
    await alice.set_state(room.room_id, "m.room.policy", policy.content())
    assert peer.asked(SIGN) == 0  # the policy itself is nobody's to judge
    return alice, room, policy


async def test_our_events_are_sent_with_the_policy_servers_signature(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)
    event_id = await alice.send(room.room_id, "hello")
    assert peer.asked(SIGN) == 1
    path = f"/_matrix/federation/v1/event/{event_id}"
    _, answer = await peer.request("GET", path)
    signatures = answer["pdus"][0]["signatures"]
    assert "ed25519:policy_server" in signatures[peer.server_name]


async def test_what_the_policy_server_refuses_is_not_sent(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)
    with pytest.raises(Refused) as refused:
        await alice.send(room.room_id, "buy spam")
    assert (refused.value.status, refused.value.errcode) == (400, "M_FORBIDDEN")
    assert refused.value.body["error"] == "This looks like spam"  # verbatim
    await alice.send(room.room_id, "sorry")
    assert bodies((await alice.messages(room.room_id))["chunk"]) == ["sorry"]


async def test_events_of_others_need_the_signature(server: RunningServer, peer: Peer) -> None:
    alice, room, _ = await watched_room(server, peer)
    good = await room.say("hello")
    assert await is_shown(alice, room, good.event_id)
    bad = await room.say("spam")
    assert not await is_shown(alice, room, bad.event_id)


async def test_events_that_are_fetched_need_the_signature_too(
    server: RunningServer, peer: Peer
) -> None:
    peer.answer("PUT", "/_matrix/federation/v1/send/", {"pdus": {}})
    alice, room, _ = await watched_room(server, peer)
    serve(peer, room)
    good, bad = unsent(room, 1)[0], room.message("spam")
    room.add(bad)
    last = await room.say("the last one")
    for event, shown in ((good, True), (bad, False), (last, True)):
        assert await is_shown(alice, room, event.event_id) is shown


async def test_an_invite_is_signed_by_the_policy_server_before_anybody_sees_it(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)
    seen: list[JsonObject] = []

    async def invited(request: web.Request) -> web.StreamResponse:
        seen.append(json.loads(await request.read())["event"])
        event = add_signature(parse_event(seen[0], ROOM_VERSIONS["12"]), peer.signer)
        return web.json_response({"event": event.pdu})

    peer.answer("PUT", "/_matrix/federation/v2/invite", invited)
    carol = f"@carol:{peer.server_name}"
    await alice.invite(room.room_id, carol)
    assert list(seen[0]["signatures"][peer.server_name]) == ["ed25519:policy_server"]
    member = await alice.state(room.room_id, "m.room.member", carol)
    assert member["membership"] == "invite"
    spam = {"reason": "spam"}
    with pytest.raises(Refused):
        await alice.post(f"/rooms/{room.room_id}/invite", {"user_id": f"{carol}2", **spam})
    assert len(seen) == 1


async def test_a_silent_policy_server_is_asked_once_a_while(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)

    async def nonsense(request: web.Request) -> web.StreamResponse:
        return web.Response(text="?")

    peer.answer("POST", SIGN, nonsense)
    events = [await room.say(f"{number}") for number in range(3)]
    with pytest.raises(Refused) as refused:
        await alice.send(room.room_id, "hello")
    assert refused.value.status == 502
    assert peer.asked(SIGN) == 1
    for event in events:
        assert not await is_shown(alice, room, event.event_id)


async def test_a_policy_server_that_is_busy_says_until_when(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)
    busy = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too much", "retry_after_ms": 1234}
    peer.answer("POST", SIGN, busy, status=429)
    with pytest.raises(Refused) as refused:
        await alice.send(room.room_id, "hello")
    assert (refused.value.status, refused.value.body) == (429, busy)


async def test_a_room_without_a_member_of_the_server_uses_none(
    server: RunningServer, peer: Peer
) -> None:
    policy = PolicyServer(peer)
    alice = await server.user()
    room_id = await alice.create_room()
    await alice.set_state(room_id, "m.room.policy", policy.content())
    await alice.send(room_id, "spam, if you like")
    for content in ({}, {"via": peer.server_name}, {"via": 7, "public_keys": {"ed25519": "x"}}):
        await alice.set_state(room_id, "m.room.policy", content)
        await alice.send(room_id, "spam, if you like")
    assert peer.asked(SIGN) == 0


async def test_a_silent_policy_server_stops_sending_until_it_is_taken_away(
    server: RunningServer, peer: Peer
) -> None:
    alice, room, _ = await watched_room(server, peer)
    peer.answer("POST", SIGN, {"errcode": "M_UNRECOGNIZED", "error": "?"}, status=404)
    with pytest.raises(Refused) as refused:
        await alice.send(room.room_id, "hello")
    assert refused.value.status == 404
    await alice.set_state(room.room_id, "m.room.policy", {})
    await alice.send(room.room_id, "hello")


async def test_events_that_come_with_the_policy_are_asked_about(
    server: RunningServer, peer: Peer
) -> None:
    policy = PolicyServer(peer)
    alice, room = await joined_room(server, peer, power_level_content_override=EVERYBODY_MAY)
    events = [room.make("m.room.policy", policy.content(), state_key="")]
    room.add(events[0])
    for text in ("hello", "spam", "good bye"):
        events.append(room.message(text))
        room.add(events[-1])
    await room.send(*events)
    assert bodies((await alice.messages(room.room_id))["chunk"])[:2] == ["good bye", "hello"]
    assert peer.asked(SIGN) == 3
