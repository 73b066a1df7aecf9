"""Finding rooms and people: a space of many rooms, the directory, a room that many are in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

from bench.connection import Connection
from bench.measure import Row, section
from bench.people import User, limited, new_users
from bench.server import Server

BATCH = 100


async def finding(server: Server, rooms: int, members: int, requests: int) -> AsyncIterator[Row]:
    """Hierarchy, summary, published rooms, people, and a join; first just after a start."""
    (owner,) = await new_users(server, 1)
    crowd = await owner.create_room("crowd")
    for _ in range(members // BATCH):
        joining = await new_users(server, BATCH)
        await limited(user.join(crowd) for user in joining)
        for user in joining:
            user.connection.close()
    space = await _space(owner, rooms)
    late = await new_users(server, requests)
    await server.restart()
    owner.connection = await Connection.open(server.url, owner.token)

    tree = f"v1/rooms/{quote(space)}/hierarchy?limit=500"
    search = json.dumps({"search_term": "u1", "limit": 20}).encode()
    asked = {
        f"hierarchy of a space of {rooms} rooms": ("GET", tree, b""),
        "summary of a room": ("GET", f"v1/room_summary/{quote(crowd)}", b""),
        f"directory of {rooms} published rooms": ("GET", "v3/publicRooms?limit=100", b""),
        f"search for people among {members}": ("POST", "v3/user_directory/search", search),
    }
    for name, (method, path, body) in asked.items():
        for suffix, times in ((", first", 1), ("", requests)):
            row = Row(f"{name}{suffix}")
            async with section(server, row):
                for _ in range(times):
                    with row.operation():
                        answer = await owner.connection.raw(method, f"/_matrix/client/{path}", body)
            row.notes["response kB"] = len(answer) / 1e3
            yield row
    yield await _joins(server, crowd, f"join a room of {members}, first", late[:1])
    yield await _joins(server, crowd, f"join a room of {members}", late[1:])


async def _space(owner: User, rooms: int) -> str:
    """A space of published rooms."""
    creation = {"preset": "public_chat", "name": "space", "creation_content": {"type": "m.space"}}
    answer = await owner.connection.json("POST", "/createRoom", creation)
    space = str(answer["room_id"])
    for number in range(rooms):
        room = {"visibility": "public", "name": f"room {number}", "topic": "of a space"}
        child = (await owner.connection.json("POST", "/createRoom", room))["room_id"]
        path = f"/rooms/{quote(space)}/state/m.space.child/{quote(child)}"
        await owner.connection.json("PUT", path, {"via": [server_of(owner)]})
    return space


def server_of(user: User) -> str:
    return user.user_id.partition(":")[2]


async def _joins(server: Server, crowd: str, name: str, late: list[User]) -> Row:
    row = Row(name)
    for user in late:
        user.connection = await Connection.open(server.url, user.token)
    async with section(server, row):
        for user in late:
            with row.operation():
                await user.join(crowd)
    return row
