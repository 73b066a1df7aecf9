"""Who may do what in a room as it is now."""

from __future__ import annotations

from homeserver.protocol.power_levels import PowerLevels, power_levels_of
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent


async def room_power(rooms: LiveRooms, room: LiveRoom) -> PowerLevels:
    """The room's power levels; no query for a room whose state events are in memory."""
    create = await state_event(rooms, room, "m.room.create")
    levels = await state_event(rooms, room, "m.room.power_levels")
    assert create is not None
    return power_levels_of(room.rules, create.event, None if levels is None else levels.event)


async def state_event(
    rooms: LiveRooms, room: LiveRoom, event_type: str, state_key: str = ""
) -> StoredEvent | None:
    """The event that stands in the room's current state under this key."""
    event_id = room.state.get((event_type, state_key))
    return None if event_id is None else await rooms.event(event_id)
