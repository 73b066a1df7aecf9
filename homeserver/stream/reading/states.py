"""A room's state for its readers: now, or as it was at a place of the timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.errors import Forbidden
from homeserver.protocol.event_types import MEMBER
from homeserver.store import timeline as timeline_store
from homeserver.store.database import Database
from homeserver.stream.live_room import State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.reading.readers import NOT_A_MEMBER, Reader
from homeserver.stream.sections.room_state import StateHistory
from homeserver.stream.stored_event import StoredEvent


class States:
    """Reads states; the current one of a room in memory costs no query."""

    def __init__(self, database: Database, rooms: LiveRooms) -> None:
        self._database = database
        self._rooms = rooms
        self._history = StateHistory(database)

    async def of(self, reader: Reader, place: int | None = None) -> State:
        """The state at a place, by default the newest that the reader may see.

        Raises Forbidden for those who may see no state at all.
        """
        if not reader.sees_state:
            raise Forbidden(NOT_A_MEMBER)
        before = reader.state_before
        if place is not None:
            before = place if before is None else min(place, before)
        if before is None:
            return reader.room.state
        return await self._history.at(reader.room, before)

    async def events(self, event_ids: Iterable[str]) -> list[StoredEvent]:
        """These state events, in their order; one query for those that aren't in memory."""
        wanted = list(event_ids)
        cache = self._rooms.events
        held = dict(zip(wanted, map(cache.peek, wanted), strict=True))
        missing = [event_id for event_id, stored in held.items() if stored is None]
        if missing:
            async with self._database.connection() as connection:
                held |= await cache.get_many(connection, missing, self._rooms.rules_of)
        return [stored for e in wanted if (stored := held[e]) is not None]

    async def members_for(
        self, reader: Reader, user_ids: Iterable[str], before: int
    ) -> Sequence[StoredEvent]:
        """The member events that these users had at a place; no query for those of today.

        client-server-api#lazy-loading-room-members
        """
        state = reader.room.state
        ids = {user_id: state.get((MEMBER, user_id)) for user_id in user_ids}
        current = await self.events(e for e in ids.values() if e is not None)
        found = [s for s in current if s.order is not None and s.order < before]
        missing = ids.keys() - {stored.state_key for stored in found}
        if not missing:
            return found
        async with self._database.connection() as connection:
            rows = await timeline_store.members_before(
                connection, reader.room.number, missing, before
            )
            older = await self._rooms.events.adopt(connection, rows, self._rooms.rules_of)
        known = {stored.state_key for stored in (*found, *older)}
        # Of whom no earlier event is known: who they are today.
        return [*found, *older, *(s for s in current if s.state_key not in known)]
