"""Who joins a room that replaces another finds it set up like the old one.

"When a user joins the new room, the server should automatically transfer/replicate some of the
user's personalized settings such as notifications, tags, etc." client-server-api#room-upgrades
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from homeserver.errors import MatrixError
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.stream.changes import Change, EventChange
from homeserver.stream.core import StreamCore

Transfer = Callable[[str, str, str], Awaitable[None]]
"""Called with a user id, the old room's id and the new one's."""

log = structlog.get_logger(__name__)


class Replacements:
    """A follower of the stream: it notes joins, and the tombstones that come after them."""

    def __init__(self, database: Database, stream: StreamCore, transfers: Sequence[Transfer]):
        self._database = database
        self._stream = stream
        self._transfers = transfers
        self._joins: list[tuple[int, str]] = []
        self._closed: list[int] = []
        self._work = asyncio.Event()

    def published(self, changes: Sequence[Change]) -> None:
        """Note what may ask for a transfer (called by the writer)."""
        for change in changes:
            if not isinstance(change, EventChange) or not change.state_changes:
                continue
            self._joins += [
                (row.room_number, row.user_id)
                for row in change.memberships
                if row.is_local and row.joined_from == row.position
            ]
            if any(c.key == ("m.room.tombstone", "") for c in change.state_changes):
                self._closed.append(change.row.room_number)
        if self._joins or self._closed:
            self._work.set()

    async def run(self) -> None:
        """Transfer what there is to transfer, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            joins, self._joins = self._joins, []
            closed, self._closed = self._closed, []
            try:
                await self._after_joins(joins)
                await self._after_tombstones(closed)
            except MatrixError as error:
                log.warning("settings not transferred", reason=error.message)

    async def _after_joins(self, joins: Sequence[tuple[int, str]]) -> None:
        listed = await self._stream.listed.get_many({number for number, _ in joins})
        for number, user_id in joins:
            room = listed.get(number)
            predecessor = None if room is None else room.facts.predecessor
            if predecessor is not None:
                await self._transfer(user_id, predecessor, number)

    async def _after_tombstones(self, numbers: Sequence[int]) -> None:
        """Who made the new room joined it before the old one had its tombstone."""
        listed = await self._stream.listed.get_many(numbers)
        replaced = {n: r.facts.replacement_room for n, r in listed.items()}
        successors = [room_id for room_id in replaced.values() if room_id]
        for room in (await self._stream.rooms.get_many(successors)).values():
            facts = (await self._stream.listed.get_many([room.number])).get(room.number)
            if facts is not None and facts.facts.predecessor is not None:
                for user_id in tuple(room.joined_local):
                    await self._transfer(user_id, facts.facts.predecessor, room.number)

    async def _transfer(self, user_id: str, old_room_id: str, new_number: int) -> None:
        """Both rooms must agree, and the user must have been in the old one."""
        user = await self._stream.users.get(user_id)
        row = user.rooms.get(old_room_id)
        if row is None or row.forgotten:
            return
        old = (await self._stream.listed.get_many([row.room_number])).get(row.room_number)
        async with self._database.connection() as connection:
            [new] = await room_store.by_numbers(connection, [new_number])
        if old is None or old.facts.replacement_room != new.room_id:
            return
        for transfer in self._transfers:
            await transfer(user_id, old_room_id, new.room_id)
