"""Thousands of open long-polls, in which nothing happens, do not stop others from sending."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

from bench.measure import Row, section
from bench.people import limited, new_users, room_with
from bench.polling import Poller
from bench.server import Server

WAITING_USERS = 500


async def crowd(server: Server, polls: int, sends: int) -> AsyncIterator[Row]:
    """`polls` long-polls of members of other rooms, then `sends` messages, one after the other."""
    waiting = await new_users(server, min(WAITING_USERS, polls))
    await room_with(waiting[:20], "crowd")
    sender, reader = await new_users(server, 2)
    room_id = await room_with([sender, reader], "beside the crowd")
    since = await sender.position()
    before = server.memory()
    pollers = [Poller(user, since) for user, _ in zip(itertools.cycle(waiting), range(polls))]
    await limited(poller.start(server.url) for poller in pollers)
    await asyncio.sleep(3)
    row = Row(f"send, one after the other, beside {polls:,} open long-polls")
    row.notes["KiB each"] = (server.memory() - before) / 1024 / polls
    async with section(server, row):
        for number in range(sends):
            with row.operation():
                await sender.send(room_id, f"Hello {number}")
    yield row
    for poller in pollers:
        poller.stop()
