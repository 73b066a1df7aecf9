"""What follows from changes of rooms, a moment later: guests go, left rooms are forgotten.

Rules of this file: the writer only notes what happened (`published`); `run` does what follows. A
server that was killed in between makes up for the guests at its next start.
client-server-api#guest-access, #mforget_forced_upon_leave-capability
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from homeserver.errors import MatrixError
from homeserver.protocol.event_types import MEMBER
from homeserver.store import guests as guest_store
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import Change, EventChange, MembershipChange
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft

GUEST_ACCESS = ("m.room.guest_access", "")
RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Aftermath:
    """A follower of the stream."""

    def __init__(self, database: Database, stream: StreamCore, *, forget_on_leave: bool) -> None:
        self._database = database
        self._stream = stream
        self._forget_on_leave = forget_on_leave
        self._rooms: set[int] | None = None  # None: all of them
        self._left: list[tuple[str, MembershipRow]] = []
        self._work = asyncio.Event()
        self._work.set()

    def published(self, changes: Sequence[Change]) -> None:
        """Note what this batch asks for (called by the writer)."""
        for change in changes:
            if not isinstance(change, EventChange) or not change.state_changes:
                continue
            if self._rooms is not None and any(c.key == GUEST_ACCESS for c in change.state_changes):
                self._rooms.add(change.row.room_number)
                self._work.set()
            if self._forget_on_leave:
                self._note_left(change)

    def _note_left(self, change: EventChange) -> None:
        left = [row for row in change.memberships if row.is_local and row.is_left]
        if left:
            self._left += [(change.room_id, row) for row in left]
            self._work.set()

    async def run(self) -> None:
        """Do what follows, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._forget()
                await self._remove_guests()
            except MatrixError as error:
                log.warning("aftermath not finished", reason=error.message)
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def _forget(self) -> None:
        while self._left:
            room_id, row = self._left[0]
            user = await self._stream.users.get(row.user_id)
            # Who is invited again meanwhile forgets nothing.
            if user.rooms.get(room_id) == row:
                forgotten = replace(row, forgotten=True)
                position = self._stream.writer.allocate()
                await self._stream.writer.append(MembershipChange(position, room_id, forgotten))
            del self._left[0]

    async def _remove_guests(self) -> None:
        """ "the server MUST set those users' `m.room.member` state to `leave`." """
        rooms = self._rooms
        if rooms is not None and not rooms:
            return
        self._rooms = set()
        try:
            async with self._database.connection() as connection:
                found = await guest_store.unwelcome(connection, rooms)
        except MatrixError:
            self._rooms = None if rooms is None else rooms | self._rooms
            raise
        for room_id, user_id in found:
            draft = Draft(user_id, MEMBER, {"membership": "leave"}, user_id)
            try:
                await self._stream.sender.send(room_id, draft)
            except MatrixError as error:
                log.warning("a guest could not leave", room_id=room_id, reason=error.message)
