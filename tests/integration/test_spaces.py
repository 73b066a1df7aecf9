"""Hierarchies of spaces and summaries of rooms."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.client import Client, refusal
from tests.support.server import RunningServer

V1 = "/_matrix/client/v1"


async def space(owner: Client, name: str, *children: str, **content: Any) -> str:
    """A public space with these children."""
    space_id = await owner.create_room(
        preset="public_chat", name=name, creation_content={"type": "m.space"}
    )
    for index, child in enumerate(children):
        await add(owner, space_id, child, order=f"{index:03}", **content)
    return space_id


async def add(owner: Client, space_id: str, child: str, **content: Any) -> None:
    await owner.set_state(space_id, "m.space.child", {"via": ["hs.test"], **content}, child)


async def room(owner: Client, name: str, **options: Any) -> str:
    return await owner.create_room(name=name, **{"preset": "public_chat", **options})


async def hierarchy(client: Client, room_id: str, **query: str) -> Any:
    return await client.get(f"{V1}/rooms/{quote(room_id)}/hierarchy", **query)


async def names(client: Client, room_id: str, **query: str) -> list[str]:
    return [found["name"] for found in (await hierarchy(client, room_id, **query))["rooms"]]


async def test_a_space_is_walked_depth_first_in_order(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    inner = await space(alice, "inner", await room(alice, "b"), await room(alice, "c"))
    outer = await space(alice, "outer", await room(alice, "a"), inner, await room(alice, "d"))
    await add(alice, inner, outer)  # a circle
    assert await names(bob, outer) == ["outer", "a", "inner", "b", "c", "d"]
    assert await names(bob, outer, max_depth="1") == ["outer", "a", "inner", "d"]
    assert await names(bob, outer, max_depth="0") == ["outer"]
    top = (await hierarchy(bob, outer))["rooms"][0]
    assert (top["room_type"], top["num_joined_members"]) == ("m.space", 1)
    assert [child["content"]["order"] for child in top["children_state"]] == ["000", "001", "002"]
    assert set(top["children_state"][0]) == {
        "type",
        "state_key",
        "content",
        "sender",
        "origin_server_ts",
    }


async def test_only_suggested_rooms_are_shown_on_request(server: RunningServer) -> None:
    alice = await server.user("alice")
    outer = await space(alice, "outer", await room(alice, "a"))
    await add(alice, outer, await room(alice, "b"), suggested=True)
    assert await names(alice, outer, suggested_only="true") == ["outer", "b"]


async def test_a_removed_child_is_not_shown(server: RunningServer) -> None:
    alice = await server.user("alice")
    child = await room(alice, "a")
    outer = await space(alice, "outer", child)
    await alice.set_state(outer, "m.space.child", {}, child)
    answer = await hierarchy(alice, outer)
    assert [found["children_state"] for found in answer["rooms"]] == [[]]


async def test_a_visitor_sees_the_rooms_that_they_could_join_or_read(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    club = await room(alice, "club")
    await bob.join(club)
    private = {"preset": "private_chat"}
    allow = [{"type": "m.room_membership", "room_id": club}]
    other = [{"type": "m.room_membership", "room_id": await room(alice, "other", **private)}]
    rules: dict[str, Any] = {
        "secret": {"join_rule": "invite"},
        "knock": {"join_rule": "knock"},
        "restricted": {"join_rule": "restricted", "allow": allow},
        "closed": {"join_rule": "restricted", "allow": other},
        "askable": {"join_rule": "knock_restricted", "allow": other},
    }
    rooms = []
    for name, rule in rules.items():
        rooms.append(await room(alice, name, **private))
        await alice.set_state(rooms[-1], "m.room.join_rules", rule)
    readable = await room(alice, "readable", **private)
    visible = {"history_visibility": "world_readable"}
    await alice.set_state(readable, "m.room.history_visibility", visible)
    invited = await room(alice, "invited", invite=[bob.user_id], **private)
    banned = await room(alice, "banned")
    await alice.ban(banned, bob.user_id)
    outer = await space(alice, "outer", *rooms, readable, invited, banned, "!nowhere:hs.test")
    expected = ["outer", "knock", "restricted", "askable", "readable", "invited"]
    assert await names(bob, outer) == expected
    assert len(await names(alice, outer)) == 9
    restricted = (await hierarchy(bob, outer))["rooms"][2]
    assert restricted["allowed_room_ids"] == [club]


async def test_a_hierarchy_is_paged(server: RunningServer) -> None:
    alice = await server.user("alice")
    rooms = [await room(alice, str(number)) for number in range(4)]
    outer = await space(alice, "outer", *rooms)
    first = await hierarchy(alice, outer, limit="2")
    assert [found["name"] for found in first["rooms"]] == ["outer", "0"]
    second = await hierarchy(alice, outer, limit="2", **{"from": first["next_batch"]})
    assert [found["name"] for found in second["rooms"]] == ["1", "2"]
    third = await hierarchy(alice, outer, limit="2", **{"from": second["next_batch"]})
    assert [found["name"] for found in third["rooms"]] == ["3"]
    assert "next_batch" not in third
    for query in (
        {"suggested_only": "true", "from": first["next_batch"]},
        {"max_depth": "1", "from": first["next_batch"]},
        {"from": "nonsense"},
        {"limit": "0"},
        {"limit": "-1"},
        {"max_depth": "-1"},
        {"suggested_only": "maybe"},
    ):
        refused = await refusal(hierarchy(alice, outer, **query))
        assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


async def test_a_space_that_one_may_not_see_is_forbidden(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    secret = await room(alice, "secret", preset="private_chat")
    for room_id in (secret, "!nowhere:hs.test", "nonsense"):
        refused = await refusal(hierarchy(bob, room_id))
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    "path",
    [
        f"{V1}/room_summary/%s",
        "/_matrix/client/unstable/im.nheko.summary/rooms/%s/summary",
        "/_matrix/client/unstable/im.nheko.summary/summary/%s",
    ],
)
async def test_a_room_is_summarised_for_everybody_who_could_join(
    server: RunningServer, path: str
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await room(alice, "pub", topic="Beer", room_alias_name="pub", room_version="11")
    await alice.set_state(room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    expected = {
        "room_id": room_id,
        "name": "pub",
        "topic": "Beer",
        "canonical_alias": "#pub:hs.test",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
        "join_rule": "public",
        "encryption": "m.megolm.v1.aes-sha2",
        "room_version": "11",
    }
    for name in (room_id, "#pub:hs.test"):
        assert await server.anonymous().get(path % quote(name)) == expected
        assert await bob.get(path % quote(name)) == {**expected, "membership": "leave"}
        assert (await alice.get(path % quote(name)))["membership"] == "join"


async def test_a_private_room_is_summarised_for_those_invited(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await room(alice, "secret", preset="private_chat", invite=[bob.user_id])
    path = f"{V1}/room_summary/{room_id}"
    assert (await bob.get(path))["membership"] == "invite"
    for client in (carol, server.anonymous()):
        refused = await refusal(client.get(path))
        assert (refused.status, refused.errcode) == (404, "M_NOT_FOUND")
    for name in ("!nowhere:hs.test", "#nowhere:hs.test"):
        refused = await refusal(bob.get(f"{V1}/room_summary/{quote(name)}"))
        assert refused.status == 404
    assert (await refusal(bob.get(f"{V1}/room_summary/x"))).errcode == "M_INVALID_PARAM"
