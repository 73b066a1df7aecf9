"""Two servers of ours: joining, leaving, knocking, inviting across them."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from homeserver.clock import now_ms
from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, Template, add_signature, build_event, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.federation.conftest import StartPeer, StartServers
from tests.support.client import Client, Refused, quote, refusal, timeline
from tests.support.hosted_room import HostedRoom
from tests.support.partial_room import PartialRoom
from tests.support.peer import Peer
from tests.support.server import RunningServer


def invite_of(answer: object, room_id: str) -> object:
    assert isinstance(answer, dict)
    return answer.get("rooms", {}).get("invite", {}).get(room_id)


def joined(answer: object, room_id: str) -> object:
    assert isinstance(answer, dict)
    return answer.get("rooms", {}).get("join", {}).get(room_id)


@pytest.mark.parametrize("version", list(ROOM_VERSIONS))
async def test_a_user_joins_a_room_of_another_server(
    start_servers: StartServers, version: str
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version, name="far")
    await alice.sync()
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await bob.sync_until(lambda answer: joined(answer, room_id))
    assert (await bob.state(room_id, "m.room.name"))["name"] == "far"
    member = await bob.state(room_id, "m.room.member", alice.user_id)
    assert member["membership"] == "join"
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert member["membership"] == "join"


@pytest.mark.parametrize("version", ["1", "2", "3", "11", "12"])
async def test_an_invited_user_joins(start_servers: StartServers, version: str) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(room_version=version, name="private")
    await alice.invite(room_id, bob.user_id)
    invite = await bob.sync_until(lambda answer: invite_of(answer, room_id))
    assert "private" in str(invite)
    await bob.join(room_id)
    assert (await bob.state(room_id, "m.room.name"))["name"] == "private"


async def test_an_invite_is_rejected(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room()
    await alice.invite(room_id, bob.user_id)
    await bob.sync_until(lambda answer: invite_of(answer, room_id))
    await bob.leave(room_id)
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert member["membership"] == "leave"


@pytest.mark.parametrize("how", ["invite", "state"])
async def test_who_blocks_invites_gets_none_from_afar(
    start_servers: StartServers, how: str
) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    config = f"/user/{bob.user_id}/account_data/m.invite_permission_config"
    await bob.put(config, {"default_action": "block"})
    room_id = await alice.create_room()
    content = {"membership": "invite"}
    with pytest.raises(Refused) as refused:
        if how == "invite":
            await alice.invite(room_id, bob.user_id)
        else:
            await alice.set_state(room_id, "m.room.member", content, bob.user_id)
    assert (refused.value.status, refused.value.errcode) == (403, "M_INVITE_BLOCKED")
    await bob.put(config, {})
    if how == "state":
        await alice.set_state(room_id, "m.room.member", content, bob.user_id)
    else:
        room_id = await alice.create_room(invite=[bob.user_id])
    assert await bob.sync_until(lambda answer: invite_of(answer, room_id))


async def test_who_is_not_invited_does_not_join(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room()
    with pytest.raises(Refused) as refused:
        await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


async def test_a_user_knocks(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(initial_state=[rule], name="closed")
    query = {"via": "one.test"}
    await bob.request("POST", f"/knock/{room_id}", {"reason": "please"}, query=query)
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert (member["membership"], member["reason"]) == ("knock", "please")
    await bob.sync_until(lambda a: a.get("rooms", {}).get("knock", {}).get(room_id))


async def restricted_room(alice: Client, space: str) -> str:
    allow = [{"type": "m.room_membership", "room_id": space}]
    content = {"join_rule": "restricted", "allow": allow}
    rule = {"type": "m.room.join_rules", "content": content}
    return await alice.create_room(initial_state=[rule])


async def test_a_restricted_room_lets_in_members_of_another(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    space = await alice.create_room(preset="public_chat")
    room_id = await restricted_room(alice, space)
    query = {"via": "one.test"}
    with pytest.raises(Refused) as refused:
        await bob.request("POST", f"/join/{room_id}", {}, query=query)
    assert refused.value.status == 403
    await bob.request("POST", f"/join/{space}", {}, query=query)
    await bob.request("POST", f"/join/{room_id}", {}, query=query)
    member = await bob.state(room_id, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id


async def test_a_server_that_is_down_is_told_as_such(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await one.stop()
    with pytest.raises(Refused) as refused:
        await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    assert refused.value.status == 502


async def test_sync_shows_the_state_of_a_room_that_was_joined(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="far")
    await bob.sync()
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    room = await bob.sync_until(lambda answer: joined(answer, room_id))
    assert isinstance(room, dict)
    types = {event["type"] for event in room["state"]["events"]}
    assert {"m.room.create", "m.room.name", "m.room.power_levels"} <= types
    assert [event["type"] for event in room["timeline"]["events"]] == ["m.room.member"]
    assert room["timeline"]["limited"] is True
    again = await bob.get("/sync")  # an initial one
    types = {event["type"] for event in again["rooms"]["join"][room_id]["state"]["events"]}
    assert "m.room.name" in types
    await two.restart()
    two.moved(bob)
    again = await bob.get("/sync")
    types = {event["type"] for event in again["rooms"]["join"][room_id]["state"]["events"]}
    assert {"m.room.create", "m.room.name", "m.room.power_levels"} <= types


async def test_an_invite_is_taken_back(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room()
    await alice.invite(room_id, bob.user_id)
    await bob.sync_until(lambda answer: invite_of(answer, room_id))
    await alice.kick(room_id, bob.user_id)
    await bob.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))


async def test_who_was_banned_and_is_invited_again_joins(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.request("POST", f"/join/{room_id}", {}, query={"via": "one.test"})
    await alice.ban(room_id, bob.user_id)
    await bob.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))
    await alice.post(f"/rooms/{room_id}/unban", {"user_id": bob.user_id})
    await alice.invite(room_id, bob.user_id)
    await bob.sync_until(lambda answer: invite_of(answer, room_id))
    await bob.join(room_id)
    assert bob.user_id in await alice.joined_members(room_id)


async def test_who_comes_back_finds_the_room_as_it_is_now(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="before")
    query = {"via": "one.test"}
    await bob.request("POST", f"/join/{room_id}", {}, query=query)
    await bob.send(room_id, "I was here")
    await bob.leave(room_id)
    await alice.sync_until(
        lambda answer: any(
            event["content"].get("membership") == "leave" for event in timeline(answer, room_id)
        )
    )
    await alice.set_state(room_id, "m.room.name", {"name": "after"})
    for number in range(15):
        await alice.send(room_id, f"missed {number}")
    await bob.sync()
    await bob.request("POST", f"/join/{room_id}", {}, query=query)
    room = await bob.sync_until(lambda answer: joined(answer, room_id))
    assert isinstance(room, dict)
    names = [e["content"]["name"] for e in room["state"]["events"] if e["type"] == "m.room.name"]
    assert names == ["after"]
    assert await bob.state(room_id, "m.room.name") == {"name": "after"}
    event_id = await alice.send(room_id, "welcome back")
    await bob.sync_until_event(room_id, event_id)
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert member["membership"] == "join"


async def test_invites_that_come_at_once_are_all_kept(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice = await one.user("alice")
    guests = [await two.user(f"user{number}") for number in range(6)]
    room_id = await alice.create_room()
    await alice.invite(room_id, guests[0].user_id)  # the servers know each other's keys by now
    other = await alice.create_room()
    await asyncio.gather(*(alice.invite(other, guest.user_id) for guest in guests))
    await two.restart()
    for guest in guests:
        answer = await two.moved(guest).sync()
        assert other in answer.get("rooms", {}).get("invite", {})
        assert await two.moved(guest).join(other) == other


async def test_who_blocks_invites_gets_none_from_elsewhere(start_servers: StartServers) -> None:
    one, two = await start_servers("one", "two")
    alice, bob = await one.user("alice"), await two.user("bob")
    config = f"/user/{bob.user_id}/account_data/m.invite_permission_config"
    await bob.put(config, {"default_action": "block"})
    room_id = await alice.create_room()
    blocked = await refusal(alice.invite(room_id, bob.user_id))
    assert (blocked.status, blocked.errcode) == (403, "M_INVITE_BLOCKED")
    await bob.put(config, {})
    await alice.invite(room_id, bob.user_id)
    assert room_id in (await bob.sync())["rooms"]["invite"]


def member_of(peer: Peer, room_id: str, user_id: str, membership: str) -> Event:
    """A member event by a user of the peer's in a room that we aren't in."""
    template = Template(
        room_id=room_id,
        type="m.room.member",
        sender=f"@mod:{peer.server_name}",
        content={"membership": membership},
        origin_server_ts=now_ms(),
        depth=5,
        prev_events=["$" + "p" * 43],
        auth_events=["$" + "a" * 43],
        state_key=user_id,
    )
    return build_event(ROOM_VERSIONS["11"], template, peer.signer)


async def test_a_knock_is_refused_by_servers_of_the_room_only(
    server: RunningServer, start_peer: StartPeer
) -> None:
    resident, moderating, strange = [await start_peer(server) for _ in range(3)]
    bob = await server.user("bob")
    room_id = f"!room:{resident.server_name}"
    template = {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": bob.user_id,
        "state_key": bob.user_id,
        "content": {"membership": "knock"},
        "depth": 4,
        "prev_events": ["$" + "p" * 43],
        "auth_events": ["$" + "a" * 43],
    }
    v1 = "/_matrix/federation/v1"
    resident.answer("GET", f"{v1}/make_knock", {"room_version": "11", "event": template})
    name = {
        "type": "m.room.name",
        "state_key": "",
        "sender": f"@mod:{moderating.server_name}",
        "content": {"name": "theirs"},
    }
    resident.answer("PUT", f"{v1}/send_knock", {"knock_room_state": [name]})
    await bob.request("POST", f"/knock/{room_id}", {}, query={"via": resident.server_name})
    for peer, is_believed in ((strange, False), (moderating, True)):
        leave = member_of(peer, room_id, bob.user_id, "leave")
        transaction = {"pdus": [leave.pdu], "edus": []}
        await peer.request("PUT", f"{v1}/send/1", transaction)
        knocks = (await bob.sync(since="s0"))["rooms"].get("knock", {})
        assert (room_id not in knocks) == is_believed


async def test_what_was_changed_in_the_state_of_an_invite_is_not_shown(
    server: RunningServer, peer: Peer
) -> None:
    """A signature covers what redaction leaves; the rest is covered by the hash in it."""
    alice, room = await server.user("alice"), PartialRoom(peer, "12")
    state = [room.events[room.state[name, ""]].pdu for name in ("m.room.create", "m.room.name")]
    state[1]["content"] = {"name": "a trap"}
    invite = room.make("m.room.member", {"membership": "invite"}, state_key=alice.user_id)
    body = {"event": invite.pdu, "room_version": "12", "invite_room_state": state}
    path = f"/_matrix/federation/v2/invite/{quote(room.room_id)}/{quote(invite.event_id)}"
    status, answer = await peer.request("PUT", path, body)
    assert status == 200, answer
    shown = (await alice.sync())["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    contents = {event["type"]: event["content"] for event in shown}
    assert contents["m.room.create"] == {"room_version": "12"}
    assert contents["m.room.name"] == {}


async def test_of_a_room_knocked_on_only_what_is_signed_is_shown(
    server: RunningServer, peer: Peer
) -> None:
    room = HostedRoom(peer, join_rule="knock")
    good = room.make("m.room.name", {"name": "theirs"}, state_key="")
    forged = room.make("m.room.topic", {"topic": "theirs"}, state_key="").pdu
    elsewhere = HostedRoom(peer).make("m.room.avatar", {"url": "mxc://a/b"}, state_key="").pdu
    changed = room.make("m.room.canonical_alias", {"alias": "#a:b.test"}, state_key="").pdu
    stripped = {"type": "m.room.encryption", "state_key": "", "sender": room.user_id, "content": {}}
    forged["signatures"] = {peer.server_name: {"ed25519:peer": "A" * 86}}
    changed["content"] = {"alias": "#c:d.test"}
    told = [good.pdu, forged, elsewhere, changed, stripped, 7]
    bob = await server.user()
    v1 = "/_matrix/federation/v1"
    peer.answer("GET", f"{v1}/make_knock", room.template(bob.user_id, "knock"))
    peer.answer("PUT", f"{v1}/send_knock", {"knock_room_state": told})
    await bob.request("POST", f"/knock/{room.room_id}", {}, query={"via": peer.server_name})
    shown = (await bob.sync())["rooms"]["knock"][room.room_id]["knock_state"]["events"]
    contents = {event["type"]: event["content"] for event in shown}
    assert contents.pop("m.room.member")["membership"] == "knock"
    assert contents == {"m.room.name": {"name": "theirs"}, "m.room.canonical_alias": {}}


@pytest.mark.parametrize(("version", "is_old"), [("2", True), ("6", False)])
async def test_a_server_of_old_is_invited_in_the_old_way(
    server: RunningServer, peer: Peer, version: str, is_old: bool
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(room_version=version, name="private")
    bob = f"@bob:{peer.server_name}"
    names: list[str] = []

    async def invite(request: web.Request) -> web.StreamResponse:
        pdu = json.loads(await request.read())
        names.extend(event["type"] for event in pdu.pop("unsigned")["invite_room_state"])
        return web.json_response([200, {"event": signed_by(peer, pdu)}])

    peer.answer("PUT", "/_matrix/federation/v1/invite/", invite)
    if is_old:
        await alice.invite(room_id, bob)
        assert "m.room.name" in names
        assert (await alice.state(room_id, "m.room.member", bob))["membership"] == "invite"
    else:
        refused = await refusal(alice.invite(room_id, bob))
        assert (refused.status, names) == (404, [])


def signed_by(peer: Peer, pdu: JsonObject) -> JsonObject:
    """The peer's signature, in addition."""
    event = parse_event(pdu, ROOM_VERSIONS["2"])
    return add_signature(event, peer.signer).pdu
