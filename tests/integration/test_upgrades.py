"""A room is replaced by one of another version. client-server-api#room-upgrades"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.services import upgrades
from tests.support.client import Client, bodies, refusal, timeline
from tests.support.server import RunningServer

VERSIONS = [("1", "12"), ("10", "11"), ("11", "12"), ("12", "12"), ("12", "11"), ("9", "10")]


async def upgrade(client: Client, room_id: str, version: str = "12", **more: Any) -> str:
    path = f"/rooms/{quote(room_id)}/upgrade"
    return str((await client.post(path, {"new_version": version, **more}))["replacement_room"])


def told(answer: Any, room_id: str, type_: str, mention: str = "") -> bool:
    """Whether a sync tells of account data (of a room) that mentions something."""
    joined = answer.get("rooms", {}).get("join", {})
    place = joined.get(room_id, {}) if room_id else answer
    events = place.get("account_data", {}).get("events", [])
    return any(e["type"] == type_ and mention in str(e["content"]) for e in events)


@pytest.mark.parametrize(("old_version", "new_version"), VERSIONS)
async def test_state_and_power_levels_are_carried_over(
    server: RunningServer, old_version: str, new_version: str
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    old = await alice.create_room(
        preset="public_chat",
        room_version=old_version,
        name="The pub",
        topic="Beer",
        creation_content={"type": "m.space", "m.federate": False},
    )
    levels = await alice.state(old, "m.room.power_levels")
    levels["users"][bob.user_id] = 50
    levels["events"]["x"] = 7
    await alice.set_state(old, "m.room.power_levels", levels)
    await alice.set_state(old, "m.room.server_acl", {"allow": ["*"], "deny": ["evil.test"]})
    await alice.set_state(old, "m.space.child", {"via": ["hs.test"]}, "!child:hs.test")
    await alice.ban(old, "@mallory:hs.test")
    new = await upgrade(alice, old, new_version)

    create = await alice.state(new, "m.room.create")
    assert (create["room_version"], create["type"]) == (new_version, "m.space")
    assert create["m.federate"] is False
    assert create["predecessor"]["room_id"] == old
    assert (await alice.state(new, "m.room.name"))["name"] == "The pub"
    assert (await alice.state(new, "m.room.topic"))["topic"] == "Beer"
    assert (await alice.state(new, "m.room.join_rules"))["join_rule"] == "public"
    assert (await alice.state(new, "m.room.server_acl"))["deny"] == ["evil.test"]
    assert await alice.state(new, "m.space.child", "!child:hs.test") == {"via": ["hs.test"]}
    banned = await alice.state(new, "m.room.member", "@mallory:hs.test")
    assert banned["membership"] == "ban"
    carried = await alice.state(new, "m.room.power_levels")
    assert (carried["users"][bob.user_id], carried["events"]["x"]) == (50, 7)
    assert (alice.user_id in carried["users"]) == (new_version != "12")
    await alice.set_state(new, "m.room.name", {"name": "still in power"})

    tombstone = await alice.state(old, "m.room.tombstone")
    assert tombstone["replacement_room"] == new
    last = await alice.event(old, create["predecessor"]["event_id"])
    # In version 12 the new room's id, which the tombstone has, is a hash of its create event.
    assert (last["type"] == "m.room.tombstone") == (new_version != "12")
    closed = await alice.state(old, "m.room.power_levels")
    assert closed["events_default"] >= 50
    assert closed["invite"] >= 50


async def test_additional_creators_are_those_of_the_request(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    old = await alice.create_room(
        room_version="12", creation_content={"additional_creators": ["@dan:hs.test"]}
    )
    new = await upgrade(alice, old, additional_creators=[bob.user_id])
    assert (await alice.state(new, "m.room.create"))["additional_creators"] == [bob.user_id]
    older = await upgrade(alice, new, "11", additional_creators=[bob.user_id])
    assert "additional_creators" not in await alice.state(older, "m.room.create")
    users = (await alice.state(older, "m.room.power_levels"))["users"]
    assert users == {alice.user_id: 100, bob.user_id: 100}


async def test_a_moderator_who_may_send_tombstones_upgrades(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    old = await alice.create_room(preset="public_chat", room_version="11")
    await bob.join(old)
    assert (await refusal(upgrade(bob, old))).errcode == "M_FORBIDDEN"
    levels = await alice.state(old, "m.room.power_levels")
    levels["users"][bob.user_id] = 50
    levels["events"]["m.room.tombstone"] = 50
    await alice.set_state(old, "m.room.power_levels", levels)
    new = await upgrade(bob, old, "11")
    users = (await bob.state(new, "m.room.power_levels"))["users"]
    assert users == {alice.user_id: 100, bob.user_id: 50}


async def test_aliases_and_the_directory_follow(server: RunningServer) -> None:
    alice = await server.user("alice")
    old = await alice.create_room(visibility="public", room_alias_name="pub", name="pub")
    new = await upgrade(alice, old)
    assert (await alice.get("/directory/room/%23pub:hs.test"))["room_id"] == new
    assert await alice.state(new, "m.room.canonical_alias") == {"alias": "#pub:hs.test"}
    assert await alice.state(old, "m.room.canonical_alias") == {}
    listed = (await alice.get("/publicRooms"))["chunk"]
    assert [room["room_id"] for room in listed] == [new]


async def test_tags_and_push_rules_follow_whoever_joins(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    for client in (alice, bob, carol):
        await client.put(f"/user/{client.user_id}/rooms/{old}/tags/m.favourite", {"order": 0.5})
        await client.put(f"/pushrules/global/room/{quote(old)}", {"actions": []})
    direct = {"@x:hs.test": [old]}
    await bob.put(f"/user/{bob.user_id}/account_data/m.direct", direct)
    new = await upgrade(alice, old)
    for client in (bob, carol):
        await client.join(new)

    async def tags(client: Client) -> Any:
        return (await client.get(f"/user/{client.user_id}/rooms/{new}/tags"))["tags"]

    await alice.sync_until(lambda answer: told(answer, new, "m.tag"))
    await bob.sync_until(lambda answer: told(answer, "", "m.push_rules", new))
    moved = await bob.get(f"/user/{bob.user_id}/account_data/m.direct")
    assert moved == {"@x:hs.test": [old, new]}
    assert await tags(bob) == {"m.favourite": {"order": 0.5}}
    assert await tags(carol) == {}  # never in the old room


async def test_bad_upgrades_are_refused(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    unknown = await refusal(upgrade(alice, room_id, "999"))
    assert (unknown.status, unknown.errcode) == (400, "M_UNSUPPORTED_ROOM_VERSION")
    creators = await refusal(upgrade(alice, room_id, additional_creators=["bob"]))
    assert creators.errcode == "M_INVALID_PARAM"
    assert (await refusal(upgrade(bob, room_id))).errcode == "M_FORBIDDEN"
    assert (await refusal(upgrade(alice, "!nowhere:hs.test"))).errcode == "M_NOT_FOUND"
    missing = await refusal(alice.post(f"/rooms/{room_id}/upgrade", {}))
    assert missing.status == 400
    assert "m.room.tombstone" not in {
        event["type"] for event in await alice.get(f"/rooms/{room_id}/state")
    }


async def test_an_upgrade_that_fails_leaves_the_old_room_open(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    old = await alice.create_room(room_version="9")
    broken = {"users": {"nobody": 1}}
    monkeypatch.setattr(upgrades, "_power_levels", lambda *_: broken)
    path = f"/rooms/{quote(old)}/upgrade"
    assert (await refusal(alice.post(path, {"new_version": "10"}))).status == 403
    assert (await refusal(alice.state(old, "m.room.tombstone"))).status == 404
    await alice.send(old, "still open")
    assert bodies(timeline(await alice.sync(), old)) == ["still open"]
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == [old]
    monkeypatch.undo()
    new = await upgrade(alice, old, "10")
    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] == new
