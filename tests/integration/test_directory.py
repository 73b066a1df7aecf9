"""Aliases and the list of published rooms. client-server-api#room-aliases"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import StartServer
from tests.support.client import Client, refusal
from tests.support.server import RunningServer


def path(alias: str) -> str:
    return f"/directory/room/{quote(alias)}"


async def add(client: Client, alias: str, room_id: str) -> None:
    assert await client.put(path(alias), {"room_id": room_id}) == {}


async def names(client: Client, **search: Any) -> list[str]:
    answer = await client.post("/publicRooms", search)
    return [room.get("name", "") for room in answer["chunk"]]


async def test_an_alias_is_made_found_joined_by_and_deleted(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await add(alice, "#pub:hs.test", room_id)
    found = await server.anonymous().get(path("#pub:hs.test"))
    assert found == {"room_id": room_id, "servers": ["hs.test"]}
    assert await bob.join("#pub:hs.test") == room_id
    listed = await bob.get(f"/rooms/{quote(room_id)}/aliases")
    assert listed == {"aliases": ["#pub:hs.test"]}
    assert await alice.delete(path("#pub:hs.test")) == {}
    gone = await refusal(alice.get(path("#pub:hs.test")))
    assert (gone.status, gone.errcode) == (404, "M_NOT_FOUND")


async def test_an_alias_is_made_once(server: RunningServer) -> None:
    alice = await server.user("alice")
    first, second = await alice.create_room(), await alice.create_room()
    await add(alice, "#pub:hs.test", first)
    taken = await refusal(add(alice, "#pub:hs.test", second))
    assert taken.status == 409
    in_use = await refusal(alice.create_room(room_alias_name="pub"))
    assert (in_use.status, in_use.errcode) == (400, "M_ROOM_IN_USE")


async def test_of_rooms_made_at_once_with_one_alias_one_is_made(server: RunningServer) -> None:
    alice = await server.user("alice")
    made = await asyncio.gather(
        *(alice.create_room(room_alias_name="race") for _ in range(5)), return_exceptions=True
    )
    rooms = [room for room in made if isinstance(room, str)]
    assert len(rooms) == 1
    assert (await alice.get(path("#race:hs.test")))["room_id"] == rooms[0]
    assert await alice.state(rooms[0], "m.room.canonical_alias") == {"alias": "#race:hs.test"}


@pytest.mark.parametrize("alias", ["pub:hs.test", "#pub", "#pub:other.test", "#" + "x" * 300])
async def test_only_own_valid_aliases_are_made(server: RunningServer, alias: str) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    refused = await refusal(add(alice, alias, room_id))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("name", ["a:b", "", "a b", "a\0b"])
async def test_a_new_rooms_alias_must_be_valid(server: RunningServer, name: str) -> None:
    alice = await server.user("alice")
    refused = await refusal(alice.create_room(room_alias_name=name))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


async def test_strangers_neither_make_nor_delete_nor_list_aliases(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(room_alias_name="pub")
    assert (await refusal(add(bob, "#bar:hs.test", room_id))).errcode == "M_FORBIDDEN"
    assert (await refusal(bob.delete(path("#pub:hs.test")))).errcode == "M_FORBIDDEN"
    assert (await refusal(bob.get(f"/rooms/{room_id}/aliases"))).errcode == "M_FORBIDDEN"
    readable = {"history_visibility": "world_readable"}
    await alice.set_state(room_id, "m.room.history_visibility", readable)
    assert (await bob.get(f"/rooms/{room_id}/aliases"))["aliases"] == ["#pub:hs.test"]


async def test_whoever_may_set_the_canonical_alias_deletes_aliases_of_others(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await add(bob, "#bobs:hs.test", room_id)
    alone = {"alias": "#bobs:hs.test", "alt_aliases": ["#bobs:hs.test"]}
    await alice.set_state(room_id, "m.room.canonical_alias", alone)
    await alice.delete(path("#bobs:hs.test"))
    assert await alice.state(room_id, "m.room.canonical_alias") == {"alt_aliases": []}


async def test_a_canonical_alias_must_point_to_its_room(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id, other = await alice.create_room(), await alice.create_room(room_alias_name="other")

    async def refused(**content: Any) -> str:
        return (await refusal(alice.set_state(room_id, "m.room.canonical_alias", content))).errcode

    assert await refused(alias="#other:hs.test") == "M_BAD_ALIAS"
    assert await refused(alias="#nowhere:hs.test") == "M_BAD_ALIAS"
    assert await refused(alt_aliases=["#other:hs.test"]) == "M_BAD_ALIAS"
    assert await refused(alias="other") == "M_INVALID_PARAM"
    assert await refused(alt_aliases=[3]) == "M_INVALID_PARAM"
    assert await refused(alt_aliases="x") == "M_INVALID_PARAM"
    many = [f"#alias{number}:hs.test" for number in range(51)]
    assert await refused(alt_aliases=many) == "M_INVALID_PARAM"
    canonical = {"alias": "#other:hs.test"}
    await alice.set_state(other, "m.room.canonical_alias", {**canonical, "alt_aliases": []})
    await alice.delete(path("#other:hs.test"))
    # What stands there already is not checked again.
    await alice.set_state(other, "m.room.canonical_alias", canonical | {"alias": ""})


async def test_rooms_are_published_by_those_who_run_them(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    listing = f"/directory/list/room/{quote(room_id)}"
    assert await server.anonymous().get(listing) == {"visibility": "private"}
    assert (await refusal(bob.put(listing, {"visibility": "public"}))).errcode == "M_FORBIDDEN"
    await alice.put(listing, {"visibility": "public"})
    assert await bob.get(listing) == {"visibility": "public"}
    assert len((await bob.get("/publicRooms"))["chunk"]) == 1
    await alice.put(listing, {"visibility": "private"})
    assert (await bob.get("/publicRooms"))["chunk"] == []
    unknown = await refusal(bob.get("/directory/list/room/!nowhere:hs.test"))
    assert unknown.status == 404
    assert (await refusal(alice.put(listing, {"visibility": "maybe"}))).errcode == "M_BAD_JSON"


async def test_the_directory_describes_rooms(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    guest_access = {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}
    room_id = await alice.create_room(
        visibility="public",
        room_alias_name="pub",
        name="The pub",
        topic="Beer",
        creation_content={"type": "m.space"},
        initial_state=[guest_access],
    )
    await bob.join(room_id)
    await bob.leave(room_id)
    await bob.join(room_id)
    assert (await server.anonymous().get("/publicRooms")) == {
        "chunk": [
            {
                "room_id": room_id,
                "num_joined_members": 2,
                "world_readable": False,
                "guest_can_join": True,
                "join_rule": "public",
                "name": "The pub",
                "topic": "Beer",
                "canonical_alias": "#pub:hs.test",
                "room_type": "m.space",
            }
        ],
        "total_room_count_estimate": 1,
    }


async def test_the_directory_is_searched_and_filtered(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.create_room(visibility="public", name="100% Cheese")
    await alice.create_room(visibility="public", name="Wine", topic="no cheese")
    await alice.create_room(
        visibility="public", name="Cellar", creation_content={"type": "m.space"}
    )
    assert await names(alice, filter={"generic_search_term": "CHEESE"}) == ["Wine", "100% Cheese"]
    assert await names(alice, filter={"generic_search_term": "0%"}) == ["100% Cheese"]
    assert await names(alice, filter={"generic_search_term": "_"}) == []
    assert await names(alice, filter={"room_types": ["m.space"]}) == ["Cellar"]
    assert await names(alice, filter={"room_types": [None]}) == ["Wine", "100% Cheese"]
    assert len(await names(alice, filter={"room_types": [None, "m.space"]})) == 3
    assert await names(alice, filter={"room_types": []}) == []
    assert await names(alice, third_party_instance_id="irc") == []


async def test_the_directory_is_paged_both_ways(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    for number in range(5):
        room_id = await alice.create_room(visibility="public", name=str(number))
        if number == 1:
            await bob.join(room_id)
    first = await alice.get("/publicRooms", limit="2")
    assert [room["name"] for room in first["chunk"]] == ["1", "4"]
    assert first["total_room_count_estimate"] == 5
    assert "prev_batch" not in first
    second = await alice.get("/publicRooms", limit="2", since=first["next_batch"])
    assert [room["name"] for room in second["chunk"]] == ["3", "2"]
    third = await alice.get("/publicRooms", limit="2", since=second["next_batch"])
    assert [room["name"] for room in third["chunk"]] == ["0"]
    assert "next_batch" not in third
    back = await alice.get("/publicRooms", limit="2", since=third["prev_batch"])
    assert [room["name"] for room in back["chunk"]] == ["3", "2"]
    start = await alice.get("/publicRooms", limit="2", since=back["prev_batch"])
    assert [room["name"] for room in start["chunk"]] == ["1", "4"]
    assert "prev_batch" not in start


@pytest.mark.parametrize(
    "query", [{"limit": "-1"}, {"limit": "x"}, {"since": "nonsense"}, {"since": "n1_"}]
)
async def test_bad_pages_of_the_directory_are_refused(
    server: RunningServer, query: dict[str, str]
) -> None:
    refused = await refusal(server.anonymous().get("/publicRooms", **query))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


async def test_a_room_that_everybody_left_is_not_listed(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(visibility="public", name="Empty")
    await alice.leave(room_id)
    assert (await alice.get("/publicRooms"))["chunk"] == []


async def test_other_servers_are_asked_for_users_only(server: RunningServer) -> None:
    refused = await refusal(server.anonymous().get("/publicRooms", server="other.test"))
    assert refused.errcode == "M_MISSING_TOKEN"
    alice = await server.user("alice")
    assert (await refusal(alice.get("/publicRooms", server="other.test"))).status == 502
    assert (await refusal(alice.get("/publicRooms", server="n!"))).errcode == "M_INVALID_PARAM"


async def test_the_directory_outlives_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.user("alice")
    room_id = await alice.create_room(visibility="public", room_alias_name="pub")
    await server.restart()
    server.moved(alice)
    assert (await alice.get(path("#pub:hs.test")))["room_id"] == room_id
    assert [room["room_id"] for room in (await alice.get("/publicRooms"))["chunk"]] == [room_id]
