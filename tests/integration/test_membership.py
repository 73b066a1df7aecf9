"""A user's way through a room. client-server-api#room-membership"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from homeserver.json_types import JsonObject
from homeserver.stream.changes import MembershipChange
from tests.conftest import StartServer
from tests.support.client import Client, Refused, refusal, timeline
from tests.support.server import RunningServer

MEMBER = "m.room.member"


async def post(client: Client, room_id: str, action: str, **body: Any) -> Any:
    return await client.post(f"/rooms/{quote(room_id)}/{action}", body)


async def membership(client: Client, room_id: str, user_id: str) -> Any:
    return (await client.state(room_id, MEMBER, user_id))["membership"]


async def pub(owner: Client, *members: Client, **options: Any) -> str:
    """A public room of `owner` with these members."""
    room_id = await owner.create_room(preset="public_chat", **options)
    for member in members:
        await member.join(room_id)
    return room_id


async def test_every_change_of_membership_carries_its_reason(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="private_chat")

    async def reason() -> Any:
        return (await alice.state(room_id, MEMBER, bob.user_id)).get("reason")

    for client, action in (
        (alice, "invite"),
        (bob, "join"),
        (bob, "leave"),
        (alice, "ban"),
        (alice, "unban"),
        (alice, "invite"),
        (bob, "join"),
        (alice, "kick"),
    ):
        body = {} if client is bob else {"user_id": bob.user_id}
        await post(client, room_id, action, reason=f"so {action}", **body)
        assert await reason() == f"so {action}"


async def test_who_joins_may_say_more(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await pub(alice)
    said = {"displayname": "Guest of honour", "org.example.colour": "red", "reason": "curious"}
    kept_out = {"membership": "ban", "join_authorised_via_users_server": alice.user_id}

    await post(bob, room_id, "join", **said, **kept_out)

    content = await alice.state(room_id, MEMBER, bob.user_id)
    assert content == {**said, "membership": "join"}


@pytest.mark.parametrize("action", ["join", "leave", "kick", "ban", "unban", "invite"])
async def test_a_reason_is_a_text(server: RunningServer, action: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room()
    body = {"reason": 3, "user_id": bob.user_id}
    assert (await refusal(post(alice, room_id, action, **body))).errcode == "M_BAD_JSON"


@pytest.mark.parametrize("action", ["kick", "ban", "unban", "invite"])
async def test_a_target_is_a_user(server: RunningServer, action: str) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    assert (await refusal(post(alice, room_id, action))).errcode == "M_MISSING_PARAM"
    assert (await refusal(post(alice, room_id, action, user_id=3))).errcode == "M_BAD_JSON"
    bad = await refusal(post(alice, room_id, action, user_id="bob"))
    assert (bad.status, bad.errcode) == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("action", ["kick", "ban", "unban", "invite"])
async def test_those_without_power_or_outside_move_nobody(
    server: RunningServer, action: str
) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await pub(alice, bob)
    target = alice.user_id if action in ("kick", "ban") else "@dan:hs.test"
    if action == "unban":
        await alice.ban(room_id, target)
    for client in (bob, carol):
        refused = await refusal(post(client, room_id, action, user_id=target))
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("action", ["join", "leave", "knock"])
async def test_an_unknown_room_is_not_found(server: RunningServer, action: str) -> None:
    alice = await server.user("alice")
    path = "/knock/!no:hs.test" if action == "knock" else f"/rooms/!no:hs.test/{action}"
    refused = await refusal(alice.post(path))
    assert refused.status in (403, 404)
    assert refused.errcode in ("M_FORBIDDEN", "M_NOT_FOUND")


async def test_invites_are_accepted_and_rejected(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(invite=[bob.user_id, carol.user_id])
    await bob.join(room_id)
    await carol.leave(room_id)
    assert await alice.joined_members(room_id) == {alice.user_id, bob.user_id}
    assert (await refusal(carol.join(room_id))).errcode == "M_FORBIDDEN"
    again = await refusal(alice.invite(room_id, bob.user_id))
    assert again.errcode == "M_FORBIDDEN"


async def test_who_is_banned_neither_joins_nor_is_invited_until_unbanned(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await pub(alice, bob)
    await alice.ban(room_id, bob.user_id)
    assert (await refusal(bob.join(room_id))).errcode == "M_FORBIDDEN"
    assert (await refusal(alice.invite(room_id, bob.user_id))).errcode == "M_FORBIDDEN"
    assert (await refusal(alice.kick(room_id, bob.user_id))).errcode == "M_FORBIDDEN"
    await post(alice, room_id, "unban", user_id=bob.user_id)
    again = await refusal(post(alice, room_id, "unban", user_id=bob.user_id))
    assert (again.status, again.errcode) == (403, "M_BAD_STATE")
    await bob.join(room_id)


async def test_knocking_asks_to_be_let_in(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room()
    assert (await refusal(bob.post(f"/knock/{room_id}"))).errcode == "M_FORBIDDEN"
    await alice.set_state(room_id, "m.room.join_rules", {"join_rule": "knock"})
    assert await bob.post(f"/knock/{room_id}", {"reason": "please"}) == {"room_id": room_id}
    knock = await alice.state(room_id, MEMBER, bob.user_id)
    assert (knock["membership"], knock["reason"]) == ("knock", "please")
    assert room_id in (await bob.sync())["rooms"]["knock"]
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)


@pytest.mark.parametrize("join_rule", ["restricted", "knock_restricted"])
async def test_members_of_an_allowed_room_join_a_restricted_one(
    server: RunningServer, join_rule: str
) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    space = await pub(alice, bob)
    allow = [{"type": "m.room_membership", "room_id": space}]
    room_id = await alice.create_room()
    await alice.set_state(room_id, "m.room.join_rules", {"join_rule": join_rule, "allow": allow})
    await bob.join(room_id)
    member = await alice.state(room_id, MEMBER, bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    assert (await refusal(carol.join(room_id))).errcode == "M_FORBIDDEN"
    await alice.invite(room_id, carol.user_id)
    await carol.join(room_id)
    if join_rule == "knock_restricted":
        await post(carol, room_id, "leave")
        assert await carol.post(f"/knock/{room_id}") == {"room_id": room_id}


async def test_a_left_room_is_forgotten(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await pub(alice, bob)
    early = (await refusal(post(bob, room_id, "forget"))).errcode
    assert early == "M_UNKNOWN"
    await bob.send(room_id, "hello")
    await bob.leave(room_id)
    await bob.messages(room_id)
    await post(bob, room_id, "forget")
    await post(bob, room_id, "forget")
    assert (await refusal(bob.messages(room_id))).errcode == "M_FORBIDDEN"
    bob.next_batch = None
    answer = await bob.sync(filter='{"room":{"include_leave":true}}')
    assert room_id not in answer.get("rooms", {}).get("leave", {})
    await bob.join(room_id)
    assert "chunk" in await bob.messages(room_id)


async def test_a_device_that_was_away_learns_that_a_forgotten_room_was_left(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    other = await alice.another_device()
    await other.sync()
    await alice.leave(room_id)
    await alice.sync()
    await post(alice, room_id, "forget")
    assert room_id in (await other.sync())["rooms"]["leave"]
    assert "rooms" not in await alice.sync()


async def test_forgetting_a_room_takes_back_no_invite_that_was_on_its_way(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await pub(alice, bob)
    await bob.leave(room_id)
    assert server.app is not None
    stream = server.app.stream
    left = (await stream.users.get(bob.user_id)).rooms[room_id]
    await alice.invite(room_id, bob.user_id)
    forgotten = MembershipChange(stream.writer.allocate(), room_id, replace(left, forgotten=True))
    await stream.writer.append(forgotten)
    for _ in range(2):
        assert await membership(alice, room_id, bob.user_id) == "invite"
        bob.next_batch = None
        assert list((await bob.sync())["rooms"]["invite"]) == [room_id]
        await server.restart()
        alice, bob = server.moved(alice), server.moved(bob)


async def test_left_rooms_can_be_forgotten_at_once(start_server: StartServer) -> None:
    server = await start_server(rooms={"forget_on_leave": True})
    alice, bob = await server.user("alice"), await server.user("bob")
    capabilities = (await bob.get("/capabilities"))["capabilities"]
    assert capabilities["m.forget_forced_upon_leave"] == {"enabled": True}
    room_id = await pub(alice, bob)
    await bob.sync()
    await alice.kick(room_id, bob.user_id)
    await bob.sync_until(lambda answer: room_id in answer.get("rooms", {}).get("leave", {}))

    async def forgotten() -> bool:
        try:
            await bob.messages(room_id)
        except Refused:
            return True
        return False

    while not await forgotten():
        await bob.sync(timeout_ms=20)


async def state(client: Client, room_id: str, user_id: str, content: JsonObject) -> str:
    return await client.set_state(room_id, MEMBER, content, user_id)


async def test_memberships_are_set_by_state_events_too(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room()
    invite = await state(alice, room_id, bob.user_id, {"membership": "invite", "x": 1})
    assert (await alice.event(room_id, invite))["content"] == {
        "membership": "invite",
        "displayname": "bob",
        "x": 1,
    }
    await state(bob, room_id, bob.user_id, {"membership": "join", "displayname": "Robert"})
    assert (await alice.state(room_id, MEMBER, bob.user_id))["displayname"] == "Robert"
    await state(bob, room_id, bob.user_id, {"membership": "join", "displayname": "Rob"})
    assert (await alice.state(room_id, MEMBER, bob.user_id))["displayname"] == "Rob"
    await state(alice, room_id, bob.user_id, {"membership": "ban"})
    await state(alice, room_id, bob.user_id, {"membership": "leave"})
    assert await membership(alice, room_id, bob.user_id) == "leave"


async def test_a_state_event_opens_no_door_that_is_shut(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room()
    joined = {"membership": "join"}
    for client, user_id, content, errcode in (
        (bob, bob.user_id, joined, "M_FORBIDDEN"),
        (alice, bob.user_id, joined, "M_FORBIDDEN"),
        (alice, bob.user_id, {"membership": "there"}, "M_BAD_JSON"),
        (alice, bob.user_id, {}, "M_BAD_JSON"),
        (alice, "bob", {"membership": "invite"}, "M_INVALID_PARAM"),
    ):
        refused = await refusal(state(client, room_id, user_id, content))
        assert refused.errcode == errcode


async def test_nobody_vouches_for_themselves(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    allow = [{"type": "m.room_membership", "room_id": await alice.create_room()}]
    room_id = await alice.create_room()
    restricted = {"join_rule": "restricted", "allow": allow}
    await alice.set_state(room_id, "m.room.join_rules", restricted)
    content = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    assert (await refusal(state(bob, room_id, bob.user_id, content))).errcode == "M_FORBIDDEN"


@pytest.mark.parametrize("how", ["reject", "take back", "kick"])
async def test_who_was_never_in_a_room_sees_how_that_ended(server: RunningServer, how: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", initial_state=[rule])
    if how == "reject":
        await alice.invite(room_id, bob.user_id)
    else:
        await bob.post(f"/knock/{quote(room_id)}")
    await bob.sync()
    if how == "kick":
        await post(alice, room_id, "kick", user_id=bob.user_id, reason="no")
    else:
        await bob.leave(room_id)

    (event,) = timeline(await bob.sync(), room_id, "leave")

    assert (event["type"], event["state_key"]) == (MEMBER, bob.user_id)
    assert event["content"]["membership"] == "leave"
