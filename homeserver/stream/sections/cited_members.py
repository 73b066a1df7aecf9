"""Who speaks in a room whose members we don't all know yet: their events cite who they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.protocol.event_types import MEMBER
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.sections.room_state import Shown
from homeserver.stream.stored_event import StoredEvent


class CitedMembers:
    """Finds member events among the auth events of others."""

    def __init__(self, database: Database, rooms: LiveRooms) -> None:
        self._database = database
        self._rooms = rooms

    async def of(
        self, room: LiveRoom, events: Sequence[StoredEvent], user_ids: Iterable[str]
    ) -> Shown:
        """The member events of those of these users whom a partial room's state lacks."""
        if not room.is_partial:
            return {}
        wanted = {user_id for user_id in user_ids if (MEMBER, user_id) not in room.state}
        cited = {i for s in events if s.sender in wanted for i in s.event.auth_events}
        if not cited:
            return {}
        async with self._database.connection() as connection:
            found = await self._rooms.events.get_many(connection, cited, self._rooms.rules_of)
        return {
            (MEMBER, stored.state_key): stored.event_id
            for stored in found.values()
            if stored.type == MEMBER and stored.state_key in wanted
        }
