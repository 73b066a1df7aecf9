"""Who types where: kept in memory only, published like everything else.

After a start nobody types, and who was told otherwise before is told so: a clean end leaves the
names of the rooms.
client-server-api#typing-notifications
"""

from __future__ import annotations

import asyncio

from homeserver.store import typing as typing_store
from homeserver.store.database import Database
from homeserver.stream.changes import TypingChange
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.writer import StreamWriter

MAX_TIMEOUT = 120.0


class Typing:
    """The users typing in each room, local and remote; each stops by itself after a while."""

    def __init__(self, database: Database, rooms: LiveRooms, writer: StreamWriter) -> None:
        self._database = database
        self._live_rooms = rooms
        self._writer = writer
        self._rooms: dict[str, dict[str, asyncio.TimerHandle]] = {}

    async def begin(self) -> None:
        """The server starts: nobody types where somebody did."""
        async with self._database.connection() as connection:
            room_ids = await typing_store.take(connection)
        await asyncio.gather(*map(self._publish, room_ids))

    async def end(self) -> None:
        """The server has answered its last request: remember where somebody typed lately."""
        room_ids = self._live_rooms.typed_in_since(0)
        if room_ids:
            async with self._database.connection() as connection:
                await typing_store.put(connection, room_ids)

    def start(self, room_id: str, user_id: str, patience: float) -> None:
        """The user types, for at most `patience` seconds unless they say so again."""
        users = self._rooms.setdefault(room_id, {})
        known = users.pop(user_id, None)
        if known is not None:
            known.cancel()
        loop = asyncio.get_running_loop()
        patience = min(max(patience, 1.0), MAX_TIMEOUT)
        users[user_id] = loop.call_later(patience, self.stop, room_id, user_id)
        if known is None:
            self._publish(room_id)

    def stop(self, room_id: str, user_id: str) -> None:
        """The user doesn't type any more."""
        users = self._rooms.get(room_id, {})
        timer = users.pop(user_id, None)
        if timer is None:
            return
        timer.cancel()
        if not users:
            del self._rooms[room_id]
        self._publish(room_id)

    def typing_in(self, room_id: str) -> tuple[str, ...]:
        """Who types in a room."""
        return tuple(self._rooms.get(room_id, ()))

    def close(self) -> None:
        """Cancel all timers: the server ends."""
        for users in self._rooms.values():
            for timer in users.values():
                timer.cancel()
        self._rooms.clear()

    def _publish(self, room_id: str) -> asyncio.Future[None]:
        position = self._writer.allocate()
        return self._writer.submit(TypingChange(position, room_id, self.typing_in(room_id)))
