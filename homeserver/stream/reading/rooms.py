"""The parts of reading, joined: what the services that read rooms take."""

from __future__ import annotations

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import NotFound
from homeserver.store import events as event_store
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.stream.bundles import Bundles
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.reading.client_forms import ClientForms
from homeserver.stream.reading.pages import Pages
from homeserver.stream.reading.readers import Reader, Readers
from homeserver.stream.reading.states import States
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.visibility import Visibility
from homeserver.stream.writer import StreamWriter

NO_EVENT = "There is no such event, or you may not see it"


class Reading(Struct, frozen=True):
    """Who may read, page by page, in which state, in which form."""

    database: Database
    rooms: LiveRooms
    readers: Readers
    pages: Pages
    states: States
    forms: ClientForms
    bundles: Bundles

    async def event(self, reader: Reader, event_id: str) -> StoredEvent:
        """An event of the room. Raises NotFound also if the reader may not see it."""
        stored = await self.event_of(reader.room, event_id)
        if stored is None:
            raise NotFound(NO_EVENT)
        await self.readers.learn_about(reader, [stored])
        if not reader.allows(stored):
            raise NotFound(NO_EVENT)
        return stored

    async def event_of(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        """An event of a room, whoever may see it."""
        stored = self.rooms.events.peek(event_id)
        if stored is None:
            async with self.database.connection() as connection:
                rows = await event_store.by_ids(connection, [event_id])
                ours = [row for row in rows if row.room_number == room.number]
                found = await self.rooms.events.adopt(connection, ours, self.rooms.rules_of)
            stored = found[0] if found else None
        return stored if stored is not None and stored.event.room_id == room.room_id else None

    async def room_id_of(self, event_id: str) -> str:
        """The room that an event is in. Raises NotFound."""
        async with self.database.connection() as connection:
            rows = await event_store.by_ids(connection, [event_id])
            rooms = await room_store.by_numbers(connection, [row.room_number for row in rows])
        if not rooms:
            raise NotFound(NO_EVENT)
        return rooms[0].room_id


def build(
    database: Database, rooms: LiveRooms, writer: StreamWriter, bundles: Bundles, now: Clock
) -> Reading:
    """Reading over what the stream core holds."""
    readers = Readers(rooms, Visibility(database, rooms))
    return Reading(
        database=database,
        rooms=rooms,
        readers=readers,
        pages=Pages(database, rooms, readers, bundles.ignored, lambda: writer.position),
        states=States(database, rooms),
        forms=ClientForms(rooms, readers, bundles, now),
        bundles=bundles,
    )
