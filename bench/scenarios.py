"""What is measured: one function per scenario, each with its own users and rooms."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import quote

from bench.big_room import big_room
from bench.crowd import crowd
from bench.finding import finding
from bench.growth import rooms_of_a_user
from bench.measure import Row, section
from bench.people import User, limited, new_users, reconnect, room_with
from bench.polling import SYNC, Poller, deliver
from bench.server import Server


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    sends: int = 3000
    sends_alone: int = 500
    members: tuple[int, ...] = (100, 500)
    messages: int = 20
    rooms: int = 100
    room_members: int = 20
    room_messages: int = 20
    initial_syncs: int = 6
    syncs: int = 1000
    new_events: int = 50
    created: int = 100
    joined: int = 200
    history: int = 2000
    pages: int = 60
    idle: int = 1000
    crowd: int = 10_000
    growing_members: tuple[int, ...] = (10, 100, 500, 1000)
    growing_rooms: tuple[int, ...] = (10, 100, 300, 1000)
    big_members: int = 2000
    big_events: int = 20_000
    big_requests: int = 20


QUICK = Sizes(
    *(300, 50, (20,), 5, 10, 5, 5, 2, 100, 10, 20, 20, 200, 6, 100, 200, (5, 10), (2, 4)),
    *(100, 500, 3),
)


async def start(server: Server, _sizes: Sizes) -> AsyncIterator[Row]:
    """From the command to the first answer, PostgreSQL included; the data is there already."""
    row = Row("start (CPU of the server alone); idle memory")
    for _ in range(3):
        with row.operation():
            await server.restart()
        row.server_cpu += server.cpu()
    row.seconds = sum(row.latencies)
    await asyncio.sleep(1)
    row.memory = server.memory()
    yield row


async def send(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Small messages: ten senders in ten rooms, then one alone."""
    users = await new_users(server, 10)
    rooms = [await room_with(users, f"send {n}") for n in range(10)]
    turns = iter(range(sizes.sends))

    async def sender(user: User, row: Row) -> None:
        for turn in turns:
            with row.operation():
                await user.send(rooms[turn % len(rooms)], f"Hello number {turn}")

    row = Row("send, 10 senders, 10 rooms")
    async with section(server, row):
        await asyncio.gather(*(sender(user, row) for user in users))
    yield row

    row = Row("send, one after the other")
    async with section(server, row):
        for turn in range(sizes.sends_alone):
            with row.operation():
                await users[0].send(rooms[0], f"Hello {turn}")
    yield row


async def fan_out(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """One message to many members who all wait in a long-poll; until the last one has it."""
    async for row in _fan_out(server, sizes.members, sizes.messages):
        yield row


async def _fan_out(server: Server, members: tuple[int, ...], messages: int) -> AsyncIterator[Row]:
    for count in members:
        users = await new_users(server, count)
        room_id = await room_with(users, f"fan-out {count}")
        since = await users[0].position()
        pollers = [Poller(user, since) for user in users]
        for poller in pollers:
            await poller.start(server.url)
        await asyncio.sleep(1)
        row = Row(f"one message to {count} long-polls")
        await deliver(users[0], room_id, pollers, "warm-up!")
        async with section(server, row):
            for number in range(messages):
                with row.operation():
                    await deliver(users[0], room_id, pollers, f"message {number}!")
                await asyncio.sleep(0.05)
        row.notes["server CPU ms per delivery"] = 1e3 * row.server_cpu / (row.operations * count)
        yield row
        for poller in pollers:
            poller.stop()


async def sync(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Initial and incremental syncs of somebody in many rooms."""
    users = await new_users(server, sizes.room_members)
    rooms = [await room_with(users, f"sync {n}") for n in range(sizes.rooms)]
    await limited(
        users[n % len(users)].send(room_id, f"message {n}")
        for room_id in rooms
        for n in range(sizes.room_messages)
    )
    me, other = users[0], users[1]

    await server.restart()
    await reconnect(server, users)
    row = Row(f"initial sync, {sizes.rooms} rooms, cold")
    async with section(server, row):
        await _initial_sync(me, row)
    yield row

    row = Row(f"initial sync, {sizes.rooms} rooms, warm")
    async with section(server, row):
        for _ in range(sizes.initial_syncs):
            await _initial_sync(me, row)
    yield row

    since = await me.position()
    row = Row("incremental sync, nothing new")
    async with section(server, row):
        for _ in range(sizes.syncs):
            with row.operation():
                await me.connection.raw("GET", f"{SYNC}?since={since}")
    yield row

    row = Row(f"incremental sync, 1 event in 1 of {sizes.rooms} rooms")
    for number in range(sizes.new_events):
        await other.send(rooms[number % len(rooms)], f"news {number}")
        cpu = server.cpu()
        with row.operation():
            answer = json.loads(await me.connection.raw("GET", f"{SYNC}?since={since}"))
        row.server_cpu += server.cpu() - cpu
        since = answer["next_batch"]
    row.seconds, row.memory = sum(row.latencies), server.memory()
    yield row


async def _initial_sync(user: User, row: Row) -> None:
    with row.operation():
        body = await user.connection.raw("GET", SYNC)
    row.notes["response kB"] = len(body) / 1e3


async def rooms(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Making and joining rooms."""
    (owner,) = await new_users(server, 1)
    row = Row("create a room")
    async with section(server, row):
        for number in range(sizes.created):
            with row.operation():
                room_id = await owner.create_room(f"created {number}")
    yield row

    users = await new_users(server, sizes.joined)
    row = Row("join, 5 at a time")

    async def join(user: User) -> None:
        with row.operation():
            await user.join(room_id)

    async with section(server, row):
        await limited((join(user) for user in users), at_once=5)
    yield row


async def messages(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Paging back through a room's history, 100 events a page."""
    (owner,) = await new_users(server, 1)
    room_id = await owner.create_room("history")
    await limited(owner.send(room_id, f"message {n}") for n in range(sizes.history))
    path = f"/rooms/{quote(room_id)}/messages?dir=b&limit=100"
    row = Row("/messages, 100 events")
    begin = ""
    async with section(server, row):
        for _ in range(sizes.pages):
            with row.operation():
                answer = await owner.connection.json("GET", path + begin)
            begin = f"&from={answer['end']}" if "end" in answer else ""
    yield row


async def idle(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Many open long-polls in which nothing happens."""
    users = await new_users(server, 20)
    await room_with(users, "idle")
    since = await users[0].position()
    await asyncio.sleep(1)
    before = server.memory()
    pollers = [Poller(user, since) for user, _ in zip(itertools.cycle(users), range(sizes.idle))]
    row = Row(f"{sizes.idle} open long-polls")
    for poller in pollers:
        with row.operation():
            await poller.start(server.url)
    await asyncio.sleep(3)
    row.memory = server.memory()
    row.notes["KiB each"] = (row.memory - before) / 1024 / sizes.idle
    cpu = server.cpu()
    await asyncio.sleep(5)
    row.notes["CPU ms per second while nothing happens"] = 1e3 * (server.cpu() - cpu) / 5
    row.latencies.clear()
    yield row
    for poller in pollers:
        poller.stop()


async def growth(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """How the cost grows with the members of a room and with the rooms of a user."""
    async for row in _fan_out(server, sizes.growing_members, sizes.messages):
        yield row
    for count in sizes.growing_rooms:
        async for row in rooms_of_a_user(server, count, sizes.new_events):
            yield row


async def many(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Sends beside a crowd that waits."""
    async for row in crowd(server, sizes.crowd, sizes.sends_alone):
        yield row


async def big(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Reading one big room."""
    async for row in big_room(server, sizes.big_members, sizes.big_events, sizes.big_requests):
        yield row


async def find(server: Server, sizes: Sizes) -> AsyncIterator[Row]:
    """Rooms and people."""
    async for row in finding(server, sizes.rooms, sizes.big_members, sizes.big_requests):
        yield row


SCENARIOS: dict[str, Callable[[Server, Sizes], AsyncIterator[Row]]] = {
    "send": send,
    "fan-out": fan_out,
    "sync": sync,
    "rooms": rooms,
    "messages": messages,
    "big-room": big,
    "finding": find,
    "idle": idle,
    "crowd": many,
    "growth": growth,
    "start": start,
}
