"""Finding people and the rooms one shares with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import Client, refusal
from tests.support.server import RunningServer

MUTUAL = "/_matrix/client/v1/mutual_rooms"


async def search(client: Client, term: str, **more: Any) -> list[str]:
    answer = await client.post("/user_directory/search", {"search_term": term, **more})
    return [person["user_id"].split(":")[0][1:] for person in answer["results"]]


async def call(client: Client, name: str) -> None:
    await client.put(f"/profile/{client.user_id}/displayname", {"displayname": name})


async def test_people_are_found_by_name_or_id_where_one_could_meet_them(
    server: RunningServer,
) -> None:
    names = ("alice", "bob", "carol", "dave", "eve")
    alice, bob, carol, dave, eve = [await server.user(name) for name in names]
    await call(bob, "Robert Ängström")
    await call(carol, "田中花子")
    shared = await alice.create_room(invite=[bob.user_id])
    await bob.join(shared)
    await carol.create_room(preset="public_chat")
    hidden = await dave.create_room()
    readable = await eve.create_room()
    visible = {"history_visibility": "world_readable"}
    await eve.set_state(readable, "m.room.history_visibility", visible)
    assert await search(alice, "bob") == ["bob"]
    assert await search(alice, "ängs robert") == ["bob"]
    assert await search(alice, "ÄNGSTRÖM") == ["bob"]
    assert await search(alice, "花") == ["carol"]
    assert await search(alice, "@carol:hs.test") == ["carol"]
    assert await search(alice, "eve") == ["eve"]
    assert await search(alice, "dave") == []
    assert await search(alice, "alice") == []
    assert await search(carol, "bob") == []
    await dave.invite(hidden, alice.user_id)
    assert await search(alice, "dave") == []
    await alice.join(hidden)
    assert await search(alice, "dave") == ["dave"]


async def test_one_finds_oneself_where_everybody_could(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    private = await bob.create_room(invite=[alice.user_id])
    await alice.join(private)
    assert await search(alice, "alice") == []
    public = await bob.create_room(preset="public_chat")
    await alice.join(public)
    assert await search(alice, "alice") == ["alice"]
    await alice.leave(public)
    assert await search(alice, "alice") == []
    await bob.set_state(private, "m.room.join_rules", {"join_rule": "public"})
    assert await search(alice, "alice") == ["alice"]
    await bob.set_state(private, "m.room.join_rules", {"join_rule": "invite"})
    assert await search(alice, "alice") == []


async def test_the_best_match_comes_first(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(preset="public_chat")
    for name in ("xann", "anna", "ann"):
        await (await server.user(name)).join(room_id)
    assert await search(alice, "ann") == ["ann", "anna", "xann"]
    limited = await alice.post("/user_directory/search", {"search_term": "ann", "limit": 2})
    assert limited["limited"] is True
    assert limited["results"][0] == {"user_id": "@ann:hs.test", "display_name": "ann"}
    everything = await alice.post("/user_directory/search", {"search_term": "ann"})
    assert everything["limited"] is False


@pytest.mark.parametrize("term", ["", " ", "%", "_", "\\", "\0", "'"])
async def test_signs_are_just_signs(server: RunningServer, term: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    assert await search(alice, term) == []


async def test_a_search_needs_a_term(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert (await refusal(alice.post("/user_directory/search", {}))).status == 400
    negative = await refusal(search(alice, "a", limit=-1))
    assert (negative.status, negative.errcode) == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize(
    "path", [MUTUAL, "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"]
)
async def test_mutual_rooms_are_those_both_are_in(server: RunningServer, path: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room_id in rooms:
        await bob.join(room_id)
    await bob.leave(rooms[1])
    expected = {"joined": [rooms[0], rooms[2]], "count": 2}
    assert await alice.get(path, user_id=bob.user_id) == expected
    assert await alice.get(path, user_id="@nobody:hs.test") == {"joined": [], "count": 0}


async def test_bad_questions_for_mutual_rooms_are_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert (await refusal(alice.get(MUTUAL))).errcode == "M_MISSING_PARAM"
    for query in (
        {"user_id": alice.user_id},
        {"user_id": "bob"},
        {"user_id": "@b:hs.test", "from": "nonsense"},
    ):
        refused = await refusal(alice.get(MUTUAL, **query))
        assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
