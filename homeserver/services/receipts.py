"""Read receipts and read markers. client-server-api#receipts, #fully-read-markers"""

from __future__ import annotations

from homeserver.clock import now_ms
from homeserver.errors import Forbidden, InvalidParam
from homeserver.protocol.identifiers import is_event_id
from homeserver.store.database import Database
from homeserver.store.events import LOWEST_ORDER
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import ReceiptChange
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
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

        Raises InvalidParam for an unknown type, or an event of another thread; Forbidden.
        """
        if receipt_type not in RECEIPT_TYPES:
            raise InvalidParam(f"{receipt_type!r} is not a type of receipt")
        room = await self.require_joined(room_id, user_id)
        stored = await self.find(room, event_id)
        if thread_id and stored is not None:
            check_thread(stored, thread_id)
        order = LOWEST_ORDER if stored is None or stored.order is None else stored.order
        await self._stream.rooms.load_receipts([room])
        assert room.receipts is not None
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

    async def find(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        """An event of the room, if we have it. Raises InvalidParam if that is no event id."""
        if not is_event_id(event_id):
            raise InvalidParam(f"{event_id!r} is not an event id")
        rooms = self._stream.rooms
        stored = rooms.events.peek(event_id)
        if stored is None:
            async with self._database.connection() as connection:
                found = await rooms.events.get_many(connection, [event_id], rooms.rules_of)
            stored = found.get(event_id)
        if stored is None or stored.event.room_id != room.room_id:
            return None
        return stored


def check_thread(stored: StoredEvent, thread_id: str) -> None:
    """Raises InvalidParam unless the event belongs to the thread."""
    relates_to = stored.event.content.get("m.relates_to")
    root = None
    if isinstance(relates_to, dict) and relates_to.get("rel_type") == "m.thread":
        root = relates_to.get("event_id")
    related = isinstance(relates_to, dict) and "rel_type" in relates_to
    if thread_id == MAIN:
        wrong = root is not None
    else:
        # Reactions and edits in a thread name the event they relate to, not the thread.
        own = thread_id in (stored.event_id, root)
        wrong = not own and (root is not None or not related)
    if wrong:
        raise InvalidParam("The event does not belong to this thread")
