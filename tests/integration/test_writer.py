"""The stream writer on a real Postgres: what becomes of changes that can't be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from homeserver.errors import Unavailable
from homeserver.histogram import Histogram
from homeserver.store import account_data
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import AccountDataChange, Change, MembershipChange
from homeserver.stream.tables import TABLES, is_one_statement
from homeserver.stream.writer import StreamWriter

ALICE = "@alice:hs.test"


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[StreamWriter]:
    writer = StreamWriter(database, dict(TABLES), is_one_statement, Histogram(), Histogram())
    await writer.start()
    yield writer
    await writer.stop()


def change(writer: StreamWriter, type_: str) -> AccountDataChange:
    position = writer.allocate()
    return AccountDataChange(position, AccountDataRow(ALICE, "", type_, b"{}", position))


async def test_a_change_that_postgres_refuses_fails_alone(
    database: Database, writer: StreamWriter
) -> None:
    published: list[int] = []
    failed: list[int] = []
    writer.on_publish(lambda changes: published.extend(c.position for c in changes))
    writer.on_failure(lambda changes: failed.extend(c.position for c in changes))
    changes = [change(writer, type_) for type_ in ("a", "b\0", "c", "d\0", "e")]
    async with asyncio.timeout(20):
        done = [writer.submit(change) for change in changes]
        outcomes = await asyncio.gather(*done, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        Unavailable,
        type(None),
        Unavailable,
        type(None),
    ]
    assert published == [changes[i].position for i in (0, 2, 4)]
    assert failed == [changes[i].position for i in (1, 3)]
    assert writer.position == changes[4].position
    async with database.connection() as connection:
        rows = await account_data.of_user(connection, ALICE)
    assert {row.type for row in rows} == {"a", "c", "e"}
    await writer.append(change(writer, "f"))


async def test_what_is_built_on_a_refused_change_fails_with_it(writer: StreamWriter) -> None:
    def invited(user_id: str) -> MembershipChange:
        position = writer.allocate()
        row = MembershipRow(
            room_number=1,
            user_id=user_id,
            membership="invite",
            event_id="$event",
            sender=ALICE,
            position=position,
            joined_from=None,
            is_local=True,
        )
        return MembershipChange(position, "!room:hs.test", row)

    async with asyncio.timeout(20):
        done = [
            writer.submit(invited("@\0:hs.test")),
            writer.submit(invited("@bob:hs.test")),
            writer.submit(change(writer, "c")),
        ]
        outcomes = await asyncio.gather(*done, return_exceptions=True)
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True, True, False]


async def test_what_a_lost_connection_leaves_open_is_told_again_when_the_lock_is_back(
    database: Database, writer: StreamWriter
) -> None:
    failed: list[int] = []
    writer.on_failure(lambda changes: failed.extend(c.position for c in changes))
    async with database.connection() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    lost = change(writer, "a")
    with pytest.raises(Unavailable):
        await writer.append(lost)
    assert failed == [lost.position]
    async with asyncio.timeout(20):
        while failed.count(lost.position) < 2:
            with suppress(Unavailable):
                await writer.append(change(writer, "b"))
    await writer.append(change(writer, "c"))


async def test_a_follower_that_fails_takes_nothing_from_the_others(writer: StreamWriter) -> None:
    told: list[int] = []

    def fails(changes: Sequence[Change]) -> None:
        raise KeyError("a fault of ours")

    writer.on_publish(fails)
    writer.on_publish(lambda changes: told.extend(c.position for c in changes))
    changes = [change(writer, type_) for type_ in ("a", "b")]
    async with asyncio.timeout(20):
        await asyncio.gather(*map(writer.submit, changes))
        await writer.settle()
    assert told == [one.position for one in changes]
