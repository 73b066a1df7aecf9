"""Rooms that we entered with a part of their state get the rest, from whoever has it.

Rules of this file: one task for each such room, from the join (or the server's start) until the
room is whole or we have left it (it stays as it is then, until we enter it anew). Servers are asked
one after the other, the one that let us in first, and all of them again and again, more and more
rarely. Few rooms are fetched at once: a big one takes memory.
MSC3902
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from homeserver.backoff import Backoff
from homeserver.errors import MatrixError
from homeserver.store import partial_rooms as partial_store
from homeserver.store.database import Database
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.received_pdus import ReceivedPdu
from homeserver.stream.changes import Change, EventChange, PartialRoomChange
from homeserver.stream.core import StreamCore
from homeserver.stream.inbound import Inbound
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.take_in import RoomGone

AT_ONCE = 8
SERVERS_A_ROUND = 10
BACKOFF_SECONDS = Backoff(2.0, 900.0)

log = structlog.get_logger(__name__)


class Resync:
    """A follower of the stream. `start` it before the server listens."""

    def __init__(self, database: Database, stream: StreamCore, inbound: Inbound) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._writer = stream.writer
        self._incoming = inbound.incoming
        self._whole_states = inbound.whole_states
        self._completion = inbound.completion
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> None:
        """Go on with what the last run didn't finish."""
        self._writer.on_publish(self.published)
        async with self._database.connection() as connection:
            unfinished = await partial_store.incomplete(connection)
        for room_id in unfinished:
            self._begin(room_id)

    async def stop(self) -> None:
        """Interrupt all of it; the next start goes on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def published(self, changes: Sequence[Change]) -> None:
        """Begin with rooms just entered, stop with those just left (called by the writer)."""
        for change in changes:
            if isinstance(change, PartialRoomChange):
                self._end(change.room_id)
                if change.row is not None:
                    self._begin(change.room_id)
            elif isinstance(change, EventChange) and change.room_id in self._tasks:
                self._look_who_left(change)

    def _look_who_left(self, change: EventChange) -> None:
        room = self._rooms.peek(change.room_id)
        left = any(row.is_local and row.is_left for row in change.memberships)
        if left and room is not None and not room.joined_local:
            self._end(change.room_id)
            self._whole_states.forget(change.room_id)

    def _begin(self, room_id: str) -> None:
        self._end(room_id)
        task = self._tasks[room_id] = asyncio.create_task(self._run(room_id))
        task.add_done_callback(lambda done: self._done(room_id, done))

    def _end(self, room_id: str) -> None:
        task = self._tasks.pop(room_id, None)
        if task is not None:
            task.cancel()

    def _done(self, room_id: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(room_id) is done:
            del self._tasks[room_id]

    async def _run(self, room_id: str) -> None:
        turn = 0
        while True:
            try:
                if await self._round(room_id, turn):
                    return
            except (MatrixError, RoomGone) as error:
                log.info("room not completed", room_id=room_id, reason=str(error))
            except Exception:  # whatever it is, the room must not stay as it is for ever
                log.exception("room not completed", room_id=room_id)
            turn += 1
            await asyncio.sleep(BACKOFF_SECONDS.after(turn))

    async def _round(self, room_id: str, turn: int) -> bool:
        """Ask some of the servers; is there nothing more to do?"""
        room = await self._rooms.get(room_id)
        if room is None or room.entry is None or not room.is_partial or not room.joined_local:
            return True
        for server in _some(room.entry.servers, turn):
            try:
                async with self._places:
                    again = await self._complete(server, room, room.entry)
            except MatrixError as error:
                log.info("no members", room_id=room_id, server=server, reason=error.message)
            else:
                log.info("room completed", room_id=room_id, server=server, taken_back=len(again))
                await self._incoming.again(again)
                return True
        return False

    async def _complete(
        self, server: str, room: LiveRoom, entry: PartialRow
    ) -> Sequence[ReceivedPdu]:
        async with self._database.connection() as connection:
            wanted = [entry.join_event_id]
            found = await self._rooms.events.get_many(connection, wanted, self._rooms.rules_of)
            states = await self._rooms.group_states.get_many(connection, [entry.state_group])
        join = found[entry.join_event_id].event
        partial = states[entry.state_group].state
        before = await self._whole_states.fetch(server, room, join, partial)
        current = await self._rooms.get(room.room_id)
        if current is None:
            raise RoomGone
        return await self._completion.complete(current, entry, before)


def _some(servers: Sequence[str], turn: int) -> list[str]:
    """Those whose turn it is; the one that let us in is asked in every turn."""
    others = list(servers[1:])
    start = turn * (SERVERS_A_ROUND - 1) % max(1, len(others))
    return [*servers[:1], *(others[start:] + others[:start])[: SERVERS_A_ROUND - 1]]
