"""One room with many members and a long history, as its members read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from bench.connection import Connection
from bench.measure import Row, section
from bench.people import User, limited, new_users
from bench.server import Server

BATCH = 100
LAZY = '{"lazy_load_members":true}'


async def big_room(server: Server, members: int, events: int, requests: int) -> AsyncIterator[Row]:
    """Pages, members, state and contexts of a room; first in a server that was just started."""
    (owner,) = await new_users(server, 1)
    room_id = await owner.create_room("big")
    for _ in range(members // BATCH):
        joining = await new_users(server, BATCH)
        await limited(user.join(room_id) for user in joining)
        for user in joining:
            user.connection.close()
    await limited(owner.send(room_id, f"message {n}") for n in range(events))
    event_id, token = await _middle(owner, room_id)
    await server.restart()
    owner.connection = await Connection.open(server.url, owner.token)

    room = f"/rooms/{quote(room_id)}"
    deep = f"{room}/messages?dir=b&limit=100&from={token}"
    context = f"{room}/context/{quote(event_id)}?limit=20"
    paths = {
        "/messages, 100 events": f"{room}/messages?dir=b&limit=100",
        "/messages, 100 events, deep in history": deep,
        "/members": f"{room}/members",
        "/joined_members": f"{room}/joined_members",
        "/state": f"{room}/state",
        "/context, lazy-loading members": f"{context}&filter={quote(LAZY)}",
        "/context with the whole state": context,
    }
    for name, path in paths.items():
        for suffix, times in ((", first", 1), ("", requests)):
            row = Row(f"{name}{suffix}")
            async with section(server, row):
                for _ in range(times):
                    with row.operation():
                        body = await owner.connection.raw("GET", f"/_matrix/client/v3{path}")
            row.notes["response kB"] = len(body) / 1e3
            yield row


async def _middle(owner: User, room_id: str) -> tuple[str, str]:
    """An event in the middle of the history, and a token there."""
    path = f"/rooms/{quote(room_id)}/messages?dir=b&limit=1000"
    pages = []
    begin = ""
    while True:
        answer = await owner.connection.json("GET", path + begin)
        if answer["chunk"]:
            pages.append(answer)
        if "end" not in answer:
            break
        begin = f"&from={answer['end']}"
    page = pages[len(pages) // 2]
    return page["chunk"][0]["event_id"], page["start"]
