"""Each room version with a real Synapse: rooms of either side, entered in each way it knows."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.interop.conftest import Pair
from tests.interop.federated import MARKS, invite_in, join_via, meet, talk, via
from tests.support.client import Client

pytestmark = MARKS

VERSIONS = ["6", "7", "8", "9", "10", "11", "12"]
KNOCKS = {"7": "knock", "8": "knock", "9": "knock", "10": "knock_restricted"} | {
    "11": "knock",
    "12": "knock_restricted",
}


async def walk_in(host: Client, guest: Client, version: str) -> None:
    room_id = await meet(host, guest, version)
    assert (await guest.state(room_id, "m.room.name"))["name"] == "meeting"
    await talk(guest, host, room_id)
    states = [
        {event["event_id"] for event in await client.get(f"/rooms/{room_id}/state")}
        for client in (host, guest)
    ]
    assert states[0] == states[1]


async def be_a_member_elsewhere(host: Client, guest: Client, version: str) -> None:
    space = await host.create_room(preset="public_chat", room_version=version)
    allow = [{"type": "m.room_membership", "room_id": space}]
    content = {"join_rule": "restricted", "allow": allow}
    rule = {"type": "m.room.join_rules", "content": content}
    room_id = await host.create_room(initial_state=[rule], room_version=version)
    await join_via(guest, space, host)
    await join_via(guest, room_id, host)
    member = await guest.state(room_id, "m.room.member", guest.user_id)
    assert member["join_authorised_via_users_server"] == host.user_id
    await talk(guest, host, room_id)


async def knock(host: Client, guest: Client, version: str) -> None:
    content = {"join_rule": KNOCKS[version], "allow": []}
    rule = {"type": "m.room.join_rules", "content": content}
    room_id = await host.create_room(initial_state=[rule], room_version=version, name="workshop")
    body = {"reason": "May I?"}
    await guest.request("POST", f"/knock/{room_id}", body, query=via(host))
    member = await host.state(room_id, "m.room.member", guest.user_id)
    assert (member["membership"], member["reason"]) == ("knock", "May I?")
    await host.invite(room_id, guest.user_id)
    await guest.sync_until(partial(invite_in, room_id))
    await guest.join(room_id)
    await talk(guest, host, room_id)


@pytest.mark.parametrize("version", VERSIONS)
async def test_rooms_of_either_side(pair: Pair, version: str) -> None:
    ways = [walk_in]
    if version in KNOCKS:
        ways.append(knock)
    if int(version) >= 8:
        ways.append(be_a_member_elsewhere)
    async with asyncio.TaskGroup() as group:
        for way in ways:
            for index in (0, 1):
                people = await pair()
                group.create_task(way(people[index], people[1 - index], version))
