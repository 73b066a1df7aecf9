"""Local users in memory."""

from __future__ import annotations

import asyncio

from homeserver.store import account_data
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.invite_permission import InvitePermission
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.tables import OWNER_OF

ALICE = "@alice:hs.test"


def row(type_: str, content: bytes, position: int) -> AccountDataRow:
    return AccountDataRow(ALICE, "", type_, content, position)


async def test_who_reads_account_data_at_the_same_time_gets_all_of_it(database: Database) -> None:
    invites = InvitePermission(database, IgnoredUsers(database, capacity=9), capacity=9)
    users = LiveUsers(database, lambda: 1, OWNER_OF, invites, capacity=9)
    async with database.connection() as connection:
        await account_data.put(connection, [row("m.direct", b'{"a":1}', 1), row("old", b"{}", 1)])
    user = await users.get(ALICE)
    reading = [asyncio.create_task(users.load_account_data(user)) for _ in range(3)]
    await asyncio.sleep(0)
    users.apply([AccountDataChange(2, row("m.direct", b'{"a":2}', 2))])

    for data in await asyncio.gather(*reading):
        assert data == {("", "m.direct"): b'{"a":2}', ("", "old"): b"{}"}

    users.apply([AccountDataChange(3, row("new", b"{}", 3))])
    assert ("", "new") in await users.load_account_data(user)
