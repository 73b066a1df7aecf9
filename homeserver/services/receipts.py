"""Read receipts and read markers. client-server-api#receipts, #fully-read-markers"""

from __future__ import annotations

from homeserver.clock import now_ms
from homeserver.errors import Forbidden, InvalidParam
from homeserver.protocol.identifiers import is_event_id
from homeserver.protocol.relations import THREAD, relation_of
from homeserver.store import relations as relation_store
from homeserver.store.database import Database
from homeserver.store.events import LOWEST_ORDER
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import ReceiptChange
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom, has_read_unthreaded
from homeserver.stream.stored_event import StoredEvent

FULLY_READ = "m.fully_read"
RECEIPT_TYPES = ("m.read", "m.read.private")
MAIN = "main"


class Receipts:
    """Takes receipts of local users; one never goes back behind an earlier one."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._stream = stream

    async def require_joined(self, room_id: str, user_id: str) -> LiveRoom:
        """The room. Raises Forbidden unless the user is in it."""
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(user_id) != "join":
            raise Forbidden("You are not in this room")
        return room

    async def put(
        self, room_id: str, user_id: str, receipt_type: str, event_id: str, thread_id: str
    ) -> None:
        """Say that a user has read up to an event; `thread_id` is '' for an unthreaded receipt.

        Raises InvalidParam for an unknown type or thread, or an event of another one; Forbidden.
        """
        if receipt_type not in RECEIPT_TYPES:
            raise InvalidParam(f"{receipt_type!r} is not a type of receipt")
        room = await self.require_joined(room_id, user_id)
        stored = await self.find(room, event_id)
        if thread_id:
            await self._check_thread(room, stored, thread_id)
        order = LOWEST_ORDER if stored is None or stored.order is None else stored.order
        await self._stream.rooms.load_receipts([room])
        assert room.receipts is not None
        if thread_id and has_read_unthreaded(room, user_id, receipt_type, event_id):
            return
        standing = room.receipts.get((user_id, receipt_type, thread_id))
        if standing is not None and (
            standing.event_id == event_id or standing.event_order >= order > LOWEST_ORDER
        ):
            return
        if standing is not None:
            order = max(order, standing.event_order)  # an event that we lack takes nothing back
        position = self._stream.writer.allocate()
        row = ReceiptRow(
            room.number, user_id, receipt_type, thread_id, event_id, order, now_ms(), position
        )
        await self._stream.writer.append(ReceiptChange(position, room_id, row))

    async def _check_thread(
        self, room: LiveRoom, stored: StoredEvent | None, thread_id: str
    ) -> None:
        """Raises InvalidParam unless it is a thread of the room, and the event (None: one that we
        lack) belongs to it. Otherwise there would be no end of receipts."""
        relation = None if stored is None else relation_of(stored.event.content)
        if thread_id == MAIN:
            if relation is not None and relation.rel_type == THREAD:
                raise InvalidParam("The event does not belong to this thread")
            return
        if stored is not None:
            if stored.thread_root == thread_id:
                return
            # The root belongs to its thread too, and what reacts to it.
            if thread_id not in (stored.event_id, None if relation is None else relation.event_id):
                raise InvalidParam("The event does not belong to this thread")
        async with self._database.connection() as connection:
            if not await relation_store.is_thread_root(connection, room.number, thread_id):
                raise InvalidParam("There is no such thread in this room")

    async def find(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        """An event of the room, if we have it. Raises InvalidParam if that is no event id."""
        if not is_event_id(event_id):
            raise InvalidParam(f"{event_id!r} is not an event id")
        stored = await self._stream.rooms.event(event_id)
        if stored is None or stored.event.room_id != room.room_id:
            return None
        return stored
