"""What a sync costs somebody in more and more rooms."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bench.measure import Row, section
from bench.people import User, limited, new_users, room_with
from bench.polling import SYNC
from bench.server import Server

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
WINDOW = {
    "lists": {
        "all": {
            "ranges": [[0, 19]],
            "timeline_limit": 10,
            "required_state": [["m.room.name", ""], ["m.room.member", "$ME"]],
        }
    }
}
REPEATS = 5


async def rooms_of_a_user(server: Server, count: int, events: int) -> AsyncIterator[Row]:
    """Initial, empty and one-event syncs of a user in `count` rooms, plain and sliding."""
    me, other = users = await new_users(server, 2)
    rooms = await limited(room_with(users, f"room {n} of {count}") for n in range(count))

    row = Row(f"initial sync, {count} rooms")
    async with section(server, row):
        for _ in range(REPEATS):
            with row.operation():
                await me.connection.raw("GET", SYNC)
    yield row

    since = await me.position()
    row = Row(f"incremental sync, nothing new, {count} rooms")
    async with section(server, row):
        for _ in range(10 * events):
            with row.operation():
                await me.connection.raw("GET", f"{SYNC}?since={since}")
    yield row

    async def sync() -> None:
        nonlocal since
        answer = await me.connection.raw("GET", f"{SYNC}?since={since}")
        since = json.loads(answer)["next_batch"]

    yield await _after_each_event(
        f"incremental sync, 1 event in 1 of {count} rooms", server, (other, rooms, events), sync
    )

    row = Row(f"sliding sync, a window of 20 of {count} rooms")
    async with section(server, row):
        for _ in range(REPEATS):
            with row.operation():
                pos = (await _slide(me, None))["pos"]
    yield row

    async def slide() -> None:
        nonlocal pos
        pos = (await _slide(me, pos))["pos"]

    yield await _after_each_event(
        f"sliding sync, 1 event in 1 of {count} rooms", server, (other, rooms, events), slide
    )


async def _slide(user: User, pos: str | None) -> Any:
    target = SLIDING if pos is None else f"{SLIDING}?pos={pos}"
    return json.loads(await user.connection.raw("POST", target, json.dumps(WINDOW).encode()))


async def _after_each_event(
    name: str,
    server: Server,
    source: tuple[User, list[str], int],
    sync: Callable[[], Awaitable[None]],
) -> Row:
    """One sync after each of so many events, spread over the rooms; the sync alone is measured."""
    sender, rooms, events = source
    row = Row(name)
    for number in range(events):
        await sender.send(rooms[number % len(rooms)], f"news {number}")
        cpu = server.cpu()
        with row.operation():
            await sync()
        row.server_cpu += server.cpu() - cpu
    row.seconds, row.memory = sum(row.latencies), server.memory()
    return row
