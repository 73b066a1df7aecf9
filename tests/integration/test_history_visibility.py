"""Who may read what: joined, left, invited, never-joined, world-readable; on every path."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused, bodies
from tests.support.server import RunningServer


def room_with(visibility: str, **more: Any) -> JsonObject:
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    return {"preset": "public_chat", "initial_state": [state], **more}


async def texts(client: Client, room_id: str) -> list[str]:
    """All that a client can read back, oldest first."""
    return bodies((await client.messages(room_id, limit="100"))["chunk"])[::-1]


async def refused(client: Client, path: str, **query: str) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        await client.get(path, **query)
    return error.value.status, error.value.errcode


FORBIDDEN = (403, "M_FORBIDDEN")
NOT_FOUND = (404, "M_NOT_FOUND")


def reading_paths(room_id: str, event_id: str) -> list[tuple[str, dict[str, str]]]:
    room = f"/rooms/{quote(room_id)}"
    return [
        (f"{room}/messages", {"dir": "b"}),
        (f"{room}/context/{event_id}", {}),
        (f"{room}/state", {}),
        (f"{room}/state/m.room.create", {}),
        (f"{room}/members", {}),
        (f"/_matrix/client/v1{room}/timestamp_to_event", {"ts": "0", "dir": "f"}),
        (f"{room}/initialSync", {}),
    ]


@pytest.mark.parametrize(
    ("visibility", "expected"),
    [
        ("world_readable", ["early", "invited", "joined"]),
        ("shared", ["early", "invited", "joined"]),
        ("invited", ["invited", "joined"]),
        ("joined", ["joined"]),
    ],
)
async def test_a_member_sees_what_the_visibility_lets_them(
    server: RunningServer, visibility: str, expected: list[str]
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(**room_with(visibility, preset="private_chat"))
    early = await alice.send(room_id, "early")
    await alice.invite(room_id, bob.user_id)
    await alice.send(room_id, "invited")
    await bob.join(room_id)
    await bob.send(room_id, "joined")

    assert await texts(bob, room_id) == expected
    if "early" in expected:
        assert (await bob.event(room_id, early))["event_id"] == early
    else:
        for path in (f"/rooms/{room_id}/event/{early}", f"/rooms/{room_id}/context/{early}"):
            assert await refused(bob, path) == NOT_FOUND
    await server.restart()
    assert await texts(server.moved(bob), room_id) == expected


async def test_strangers_may_read_nothing(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room(preset="public_chat")
    event_id = await alice.send(room_id, "hello")
    for path, query in reading_paths(room_id, event_id):
        assert await refused(eve, path, **query) == FORBIDDEN, path
        assert await refused(eve, path.replace(quote(room_id), "!no:hs.test"), **query) == FORBIDDEN
    assert await refused(eve, f"/rooms/{room_id}/joined_members") == FORBIDDEN
    assert await refused(eve, f"/rooms/{room_id}/event/{event_id}") == NOT_FOUND


async def test_anybody_reads_a_world_readable_room(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room(preset="public_chat")
    await alice.send(room_id, "private")
    await alice.set_state(
        room_id, "m.room.history_visibility", {"history_visibility": "world_readable"}
    )
    event_id = await alice.send(room_id, "public")

    assert await texts(eve, room_id) == ["public"]
    assert (await eve.event(room_id, event_id))["unsigned"]["membership"] == "leave"
    assert (await eve.state(room_id, "m.room.history_visibility"))["history_visibility"]
    for path, query in reading_paths(room_id, event_id):
        assert await eve.get(path, **query)
    assert await refused(eve, f"/rooms/{room_id}/joined_members") == FORBIDDEN

    await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "shared"})
    assert await refused(eve, f"/rooms/{room_id}/messages", dir="b") == FORBIDDEN


async def test_who_left_reads_history_and_state_as_of_leaving(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(name="Before", preset="public_chat")
    await bob.join(room_id)
    await alice.send(room_id, "before")
    await bob.leave(room_id)
    after = await alice.send(room_id, "after")
    await alice.set_state(room_id, "m.room.name", {"name": "After"})
    await alice.set_state(room_id, "m.room.topic", {"topic": "After"})

    assert await texts(bob, room_id) == ["before"]
    assert await bob.state(room_id, "m.room.name") == {"name": "Before"}
    assert await refused(bob, f"/rooms/{room_id}/state/m.room.topic") == NOT_FOUND
    assert await refused(bob, f"/rooms/{room_id}/event/{after}") == NOT_FOUND
    names = [e for e in await bob.get(f"/rooms/{room_id}/state") if e["type"] == "m.room.name"]
    assert [e["content"]["name"] for e in names] == ["Before"]
    members = (await bob.get(f"/rooms/{room_id}/members"))["chunk"]
    assert {e["state_key"]: e["content"]["membership"] for e in members} == {
        alice.user_id: "join",
        bob.user_id: "leave",
    }
    assert await refused(bob, f"/rooms/{room_id}/joined_members") == FORBIDDEN


async def test_who_was_banned_after_leaving_learns_nothing_of_the_time_between(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(name="Before", preset="public_chat")
    await bob.join(room_id)
    await bob.leave(room_id)
    await alice.set_state(room_id, "m.room.name", {"name": "Between"})
    await alice.ban(room_id, bob.user_id)

    assert await bob.state(room_id, "m.room.name") == {"name": "Before"}


async def test_who_forgot_a_room_is_a_stranger_to_it(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await bob.send(room_id, "hello")
    await bob.leave(room_id)
    await bob.post(f"/rooms/{room_id}/forget")
    for path, query in reading_paths(room_id, event_id):
        assert await refused(bob, path, **query) == FORBIDDEN, path
    await server.restart()
    bob = server.moved(bob)
    assert await refused(bob, f"/rooms/{room_id}/messages", dir="b") == FORBIDDEN


async def test_an_invited_user_sees_what_invited_visibility_shows(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(**room_with("invited", preset="private_chat"))
    await alice.send(room_id, "before")
    await alice.invite(room_id, bob.user_id)
    await alice.send(room_id, "after")

    assert await texts(bob, room_id) == ["after"]
    assert await refused(bob, f"/rooms/{room_id}/state") == FORBIDDEN
    shared = await alice.create_room(invite=[bob.user_id])
    assert await refused(bob, f"/rooms/{shared}/messages", dir="b") == FORBIDDEN
    await bob.leave(shared)
    assert await refused(bob, f"/rooms/{shared}/state") == FORBIDDEN


async def test_who_comes_back_sees_both_times_and_not_what_was_between(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(**room_with("joined"))
    await bob.join(room_id)
    await alice.send(room_id, "first time")
    await bob.leave(room_id)
    hidden = [await alice.send(room_id, f"between {n}") for n in range(12)]
    await bob.join(room_id)
    await alice.send(room_id, "second time")

    assert await texts(bob, room_id) == ["first time", "second time"]
    assert await refused(bob, f"/rooms/{room_id}/event/{hidden[0]}") == NOT_FOUND


async def test_prev_content_is_only_for_those_who_could_see_it(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(**room_with("joined", name="Secret"))
    await bob.join(room_id)
    event_id = await alice.set_state(room_id, "m.room.name", {"name": "Open"})

    assert (await alice.event(room_id, event_id))["unsigned"]["prev_content"] == {"name": "Secret"}
    unsigned = (await bob.event(room_id, event_id))["unsigned"]
    assert "prev_content" not in unsigned
    assert unsigned["replaces_state"]
    timeline = (await bob.sync())["rooms"]["join"][room_id]["timeline"]["events"]
    (synced,) = [event for event in timeline if event["event_id"] == event_id]
    assert "prev_content" not in synced["unsigned"]
    assert synced["unsigned"]["replaces_state"]
