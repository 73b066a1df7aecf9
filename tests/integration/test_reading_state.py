"""/state, /members and /joined_members for members."""

from __future__ import annotations

import pytest

from tests.support.client import Refused
from tests.support.server import RunningServer


async def test_the_whole_state_is_an_array_of_events(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="The pub")
    for _ in range(2):
        state = await alice.get(f"/rooms/{room_id}/state")
        by_type = {event["type"]: event for event in state}
        assert by_type["m.room.name"]["content"] == {"name": "The pub"}
        assert by_type["m.room.name"]["room_id"] == room_id
        assert {"m.room.create", "m.room.member", "m.room.power_levels"} <= by_type.keys()
        await server.restart()
        alice = server.moved(alice)


async def test_one_state_event_is_read_as_content_or_as_event(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(name="The pub")
    path = f"/rooms/{room_id}/state/m.room.name"

    assert await alice.get(path) == {"name": "The pub"}
    assert await alice.get(path + "/") == {"name": "The pub"}
    event = await alice.get(path, format="event")
    assert (event["type"], event["state_key"], event["sender"]) == (
        "m.room.name",
        "",
        alice.user_id,
    )
    member = await alice.get(f"/rooms/{room_id}/state/m.room.member/{alice.user_id}")
    assert member["membership"] == "join"


async def test_state_that_is_not_there_is_not_found(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for path, query, status in (
        ("m.room.topic", {}, 404),
        ("m.room.member/@nobody:hs.test", {}, 404),
        ("m.room.create", {"format": "xml"}, 400),
    ):
        with pytest.raises(Refused) as refused:
            await alice.get(f"/rooms/{room_id}/state/{path}", **query)
        assert refused.value.status == status


async def test_members_are_told_by_membership(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(preset="public_chat", invite=[carol.user_id])
    await bob.join(room_id)
    await bob.leave(room_id)

    async def members(**query: str) -> set[str]:
        chunk = (await alice.get(f"/rooms/{room_id}/members", **query))["chunk"]
        return {event["state_key"] for event in chunk}

    assert await members() == {alice.user_id, bob.user_id, carol.user_id}
    assert await members(membership="join") == {alice.user_id}
    assert await members(not_membership="leave") == {alice.user_id, carol.user_id}
    assert await members(membership="leave", not_membership="join") == {bob.user_id, carol.user_id}
    with pytest.raises(Refused) as refused:
        await members(membership="sleep")
    assert refused.value.status == 400


async def test_members_are_told_as_they_were_at_a_token(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    before = (await alice.sync())["next_batch"]
    await bob.join(room_id)
    after = (await alice.sync())["next_batch"]
    await bob.leave(room_id)
    for _ in range(2):
        for at, expected in ((before, {alice.user_id}), (after, {alice.user_id, bob.user_id})):
            answer = await alice.get(f"/rooms/{room_id}/members", at=at, membership="join")
            assert {event["state_key"] for event in answer["chunk"]} == expected
        await server.restart()
        alice = server.moved(alice)
    with pytest.raises(Refused) as refused:
        await alice.get(f"/rooms/{room_id}/members", at="yesterday")
    assert refused.value.status == 400


async def test_a_timeline_that_holds_everything_leads_to_its_own_members(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    timeline = (await alice.sync())["rooms"]["join"][room_id]["timeline"]
    await bob.join(room_id)

    answer = await alice.get(f"/rooms/{room_id}/members", at=timeline["prev_batch"])
    page = await alice.messages(room_id, **{"from": timeline["prev_batch"]})

    assert timeline["limited"] is False
    assert [event["state_key"] for event in answer["chunk"]] == [alice.user_id]
    assert page["chunk"] == []
    for rubbish in ("t1.", "t1.x", "s1.2", "t.1", "t1.1.1"):
        with pytest.raises(Refused) as refused:
            await alice.get(f"/rooms/{room_id}/members", at=rubbish)
        assert (refused.value.status, refused.value.errcode) == (400, "M_INVALID_PARAM")


async def test_a_newcomer_does_not_learn_who_was_there_before_a_joined_history(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    before = (await alice.sync())["next_batch"]
    await alice.send(room_id, "between")
    await bob.join(room_id)
    with pytest.raises(Refused) as refused:
        await bob.get(f"/rooms/{room_id}/members", at=before)
    assert refused.value.status == 403


async def test_joined_members_have_their_profiles(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    content = {"membership": "join", "displayname": "Robert", "avatar_url": "mxc://hs.test/b"}
    await bob.set_state(room_id, "m.room.member", content, bob.user_id)

    joined = (await alice.get(f"/rooms/{room_id}/joined_members"))["joined"]

    assert joined.keys() == {alice.user_id, bob.user_id}
    assert joined[bob.user_id] == {"display_name": "Robert", "avatar_url": "mxc://hs.test/b"}


async def test_joined_members_without_a_profile_have_nulls(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    await alice.set_state(room_id, "m.room.member", {"membership": "join"}, alice.user_id)

    joined = (await alice.get(f"/rooms/{room_id}/joined_members"))["joined"]

    assert joined == {alice.user_id: {"display_name": None, "avatar_url": None}}
