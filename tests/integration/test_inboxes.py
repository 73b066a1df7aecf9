"""What waits for a device, read while more arrives: in memory and in Postgres it is the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from homeserver.store import accounts, devices, to_device
from homeserver.store.accounts import Account
from homeserver.store.database import Database
from homeserver.store.to_device import ToDeviceRow
from homeserver.stream.changes import ToDeviceChange
from homeserver.stream.inboxes import Inboxes

DEVICE = ("@bob:hs.test", "PHONE")


class World:
    """A device's inbox, and a stream that messages come by."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.inboxes = Inboxes(database, lambda: 0, capacity=10)
        self.position = 0

    async def arrive(self, count: int = 1, *, publish: bool = True) -> None:
        """Commits messages, one change each, and publishes them as the writer does."""
        rows = [ToDeviceRow(*DEVICE, self.position + n, b"%d" % n) for n in range(1, count + 1)]
        rows = [ToDeviceRow(*DEVICE, r.position, b"%d" % r.position) for r in rows]
        self.position += count
        async with self.database.connection() as connection:
            await to_device.put(connection, rows)
        if publish:
            self.publish(rows)

    def publish(self, rows: list[ToDeviceRow]) -> None:
        self.inboxes.apply([ToDeviceChange(row.position, (row,)) for row in rows])

    async def read(self, after: int = 0) -> list[int]:
        """The positions of the messages of one sync."""
        waiting = await self.inboxes.read(DEVICE, after, self.position)
        return [int(message) for message in waiting.messages]

    async def read_all(self, after: int = 0) -> list[int]:
        """The messages of one sync after the other."""
        found: list[int] = []
        while page := await self.read(after):
            found += page
            after = page[-1]
        return found


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with database.transaction() as connection:
        await accounts.insert(connection, Account(DEVICE[0], created_at=0))
        await devices.upsert(connection, *DEVICE, None, 0)
    yield World(database)


def within_the_query(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any], after: Callable[[], Any]
) -> None:
    """The next look into Postgres happens between these."""
    real = to_device.waiting
    used: list[bool] = []

    async def waiting(*arguments: Any) -> Any:
        if used:
            return await real(*arguments)
        used.append(True)
        await before()
        found = await real(*arguments)
        await after()
        return found

    monkeypatch.setattr(to_device, "waiting", waiting)


async def test_messages_that_arrive_during_the_first_read_come_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.arrive(3)
    within_the_query(monkeypatch, world.arrive, world.arrive)

    assert await world.read() == [1, 2, 3]
    assert await world.read(3) == [4, 5]
    await world.arrive()
    assert await world.read(5) == [6]


@pytest.mark.parametrize("waiting", [99, 100, 101, 299, 300, 301, 650])
async def test_a_long_inbox_is_read_to_its_end_while_more_arrives(
    world: World, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    await world.arrive(waiting)
    within_the_query(monkeypatch, world.arrive, world.arrive)
    found = await world.read()
    await world.arrive(waiting)
    found += await world.read_all(found[-1])

    assert found == list(range(1, 2 * waiting + 3))


async def test_a_read_sees_nothing_beyond_its_position(world: World) -> None:
    await world.read()
    await world.arrive(5)

    waiting = await world.inboxes.read(DEVICE, 0, 3)

    assert [int(message) for message in waiting.messages] == [1, 2, 3]


async def test_what_arrives_in_a_full_inbox_is_read_from_postgres(world: World) -> None:
    await world.read()
    await world.arrive(700)

    assert await world.read_all() == list(range(1, 701))


async def test_what_was_acknowledged_is_deleted(world: World) -> None:
    await world.read()
    await world.arrive(3)
    assert await world.read(2) == [3]

    await world.inboxes.clean()

    assert await world.read(0) == [3]


async def test_after_a_failed_commit_postgres_is_asked(world: World) -> None:
    await world.read()
    await world.arrive(1, publish=False)
    world.inboxes.fail([])

    assert await world.read() == [1]
