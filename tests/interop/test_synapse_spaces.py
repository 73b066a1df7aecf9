"""Spaces, upgrades and directories with a real Synapse, in both directions."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.interop.federated import MARKS, join_via, meet, server_of, talk
from tests.support.client import Client, timeline

pytestmark = MARKS

SPACE = {"creation_content": {"type": "m.space"}}


async def make_space(host: Client) -> dict[str, str]:
    """A public space with a public room, a private one and a space with a room in it, by name."""
    rooms = {}
    for name in ("space", "lobby", "vault", "wing", "attic"):
        options: Any = SPACE if name in ("space", "wing") else {}
        preset = "private_chat" if name == "vault" else "public_chat"
        rooms[name] = await host.create_room(name=name, preset=preset, **options)
    for parent, child in (
        ("space", "lobby"),
        ("space", "vault"),
        ("space", "wing"),
        ("wing", "attic"),
    ):
        content = {"via": [server_of(host)], "order": child, "suggested": child == "lobby"}
        await host.set_state(rooms[parent], "m.space.child", content, rooms[child])
    return rooms


async def tree_of(client: Client, space: str, **query: str) -> list[str]:
    path = f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy"
    answer = await client.get(path, **query)
    return [room["name"] for room in answer["rooms"]]


async def test_a_space_is_walked_through_from_the_other_side(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        rooms = await make_space(host)
        await join_via(guest, rooms["space"], host)
        assert await tree_of(guest, rooms["space"]) == ["space", "lobby", "wing", "attic"]
        assert await tree_of(guest, rooms["space"], max_depth="1") == ["space", "lobby", "wing"]
        assert await tree_of(guest, rooms["space"], suggested_only="true") == ["space", "lobby"]
        await join_via(guest, rooms["attic"], host)
        await talk(guest, host, rooms["attic"])


async def test_a_restricted_room_of_a_space_is_shown_to_its_members(
    alice: Client, sam: Client
) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        rooms = await make_space(host)
        allow = [{"type": "m.room_membership", "room_id": rooms["space"]}]
        content = {"join_rule": "restricted", "allow": allow}
        await host.set_state(rooms["vault"], "m.room.join_rules", content)
        await join_via(guest, rooms["space"], host)
        assert "vault" in await tree_of(guest, rooms["space"])
        await join_via(guest, rooms["vault"], host)


@pytest.mark.parametrize(("old", "new"), [("9", "11"), ("10", "12"), ("12", "12")])
async def test_an_upgrade_is_followed(alice: Client, sam: Client, old: str, new: str) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await meet(host, guest, old, topic="cheese")
        answer = await host.post(f"/rooms/{room_id}/upgrade", {"new_version": new})
        tombstone = await guest.sync_until(partial(state_in, room_id, "m.room.tombstone"))
        replacement = answer["replacement_room"]
        assert tombstone["content"]["replacement_room"] == replacement
        await join_via(guest, replacement, host)
        create = await guest.state(replacement, "m.room.create")
        assert create["predecessor"]["room_id"] == room_id
        assert (await guest.state(replacement, "m.room.topic"))["topic"] == "cheese"
        await talk(guest, host, replacement)


async def test_the_room_of_the_other_side_is_upgraded(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        levels = {"users": {host.user_id: 100, guest.user_id: 100}}
        room_id = await meet(host, guest, "10", power_level_content_override=levels)
        answer = await guest.post(f"/rooms/{room_id}/upgrade", {"new_version": "11"})
        await host.sync_until(partial(state_in, room_id, "m.room.tombstone"))
        await join_via(host, answer["replacement_room"], guest)
        await talk(host, guest, answer["replacement_room"])


async def test_directories(alice: Client, sam: Client) -> None:
    for one, other in ((alice, sam), (sam, alice)):
        localpart = one.user_id[1:].partition(":")[0]
        name = f"hall of {one.user_id}"
        room_id = await one.create_room(
            preset="public_chat", room_alias_name=f"hall-{localpart}", name=name
        )
        found = await other.get(f"/directory/room/{quote(f'#hall-{localpart}:{server_of(one)}')}")
        assert found["room_id"] == room_id
        assert server_of(one) in found["servers"]
        await one.put(f"/directory/list/room/{quote(room_id)}", {"visibility": "public"})
        asked = {"filter": {"generic_search_term": name}}
        answer = await other.post("/publicRooms", asked, server=server_of(one))
        assert [room["room_id"] for room in answer["chunk"]] == [room_id]


async def test_a_room_is_summarised_for_the_other_side(alice: Client, sam: Client) -> None:
    for host, guest in ((alice, sam), (sam, alice)):
        room_id = await host.create_room(preset="public_chat", name="shop window", topic="cheese")
        path = f"/_matrix/client/v1/room_summary/{quote(room_id)}"
        summary = await guest.get(path, via=server_of(host))
        assert (summary["name"], summary["topic"]) == ("shop window", "cheese")
        assert summary["num_joined_members"] == 1


def state_in(room_id: str, event_type: str, answer: JsonObject) -> JsonObject | None:
    events = timeline(answer, room_id)
    return next((event for event in events if event["type"] == event_type), None)
