"""Who needs the members of a room that we entered without them waits here until they have come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from homeserver.errors import Unavailable
from homeserver.stream.changes import Change, CompletionChange, EventChange, PartialRoomChange
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.writer import StreamWriter

PATIENCE_SECONDS = 45.0
"""Less than a reverse proxy has."""


class WholeRooms:
    """Waits for rooms. It is told of each batch after the live rooms are.

    Whoever waits looks again after each change of the room: somebody may have left.
    """

    def __init__(self, rooms: LiveRooms, writer: StreamWriter) -> None:
        self._rooms = rooms
        self._waiting: dict[str, asyncio.Event] = {}
        writer.on_apply(self.apply)
        writer.on_failure(self.apply)  # the rooms are read again: who waits looks again

    async def wait(self, room_id: str, seconds: float) -> bool:
        """Is the room's state whole, as far as it will be? At once, or after so many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            room = await self._rooms.get(room_id)
            if room is None or not room.is_partial or not room.joined_local:
                return True  # of rooms that we have left nothing more is fetched
            changed = self._waiting.setdefault(room_id, asyncio.Event())
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return False

    async def knowing(self, room_id: str, user_id: str) -> LiveRoom | None:
        """The room with what that user is in it, also if we have only just joined it.

        Raises Unavailable.
        """
        room = await self._rooms.get(room_id)
        if room is not None and room.is_partial and user_id not in room.members:
            await self.require(room_id)
            room = await self._rooms.get(room_id)
        return room

    async def require(self, room_id: str) -> None:
        """Wait. Raises Unavailable if it takes too long."""
        if not await self.wait(room_id, PATIENCE_SECONDS):
            raise Unavailable(
                "This server has just joined the room, and is still being told who is in it. "
                "Try again in a moment."
            )

    def apply(self, changes: Sequence[Change]) -> None:
        """Wake who waits for these rooms (called by the writer)."""
        for change in changes:
            if isinstance(change, CompletionChange | PartialRoomChange | EventChange):
                waiting = self._waiting.pop(change.room_id, None)
                if waiting is not None:
                    waiting.set()
