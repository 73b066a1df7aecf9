"""What judging events of one room needs, brought into memory by as few queries as possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homeserver.protocol.auth_rules import StateKey, auth_event_keys
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion
from homeserver.store.database import Connection
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")


def create_id_of(rules: RoomVersion, room_id: str) -> str | None:
    """The create event that a room id stands for, as it does from version 12 on."""
    return "$" + room_id[1:] if rules.room_id_is_create_event_id else None


class EventSource:
    """The events of one room as one job sees them: what it loaded stays, whatever caches do."""

    def __init__(self, rooms: LiveRooms, room: LiveRoom, connection: Connection) -> None:
        self._rooms = rooms
        self._room = room
        self._connection = connection
        self._held: dict[str, StoredEvent] = {}
        self._absent: set[str] = set()

    def find(self, event_id: str) -> StoredEvent | None:
        """An event that is in memory."""
        return (
            self._room.pending.get(event_id)
            or self._held.get(event_id)
            or self._rooms.events.peek(event_id)
        )

    def hold(self, stored: StoredEvent) -> None:
        """Have an event that was just made."""
        self._held[stored.event_id] = stored
        self._absent.discard(stored.event_id)

    async def load(self, event_ids: Iterable[str]) -> None:
        """Bring these into memory, those of them that we have; no query if they are there."""
        missing = [
            event_id
            for event_id in dict.fromkeys(event_ids)
            if event_id not in self._absent and self._hold_known(event_id) is None
        ]
        if missing:
            found = await self._rooms.events.get_many(
                self._connection, missing, self._rooms.rules_of
            )
            self._held.update(found)
            self._absent.update(event_id for event_id in missing if event_id not in found)

    def _hold_known(self, event_id: str) -> StoredEvent | None:
        stored = self.find(event_id)
        if stored is not None:
            self._held[event_id] = stored
        return stored

    async def auth_state(
        self, event: Event, state: State | Mapping[StateKey, str]
    ) -> dict[StateKey, Event]:
        """Of a state, what decides about an event."""
        ids = auth_state_ids(event, state)
        await self.load(ids.values())
        found = {key: self.find(event_id) for key, event_id in ids.items()}
        return {key: stored.event for key, stored in found.items() if stored is not None}


def auth_state_ids(event: Event, state: State | Mapping[StateKey, str]) -> dict[StateKey, str]:
    """The ids of the state events that decide about an event, the create event always included."""
    keys = auth_event_keys(event.rules, event.type, event.sender, event.state_key, event.content)
    ids = {key: state.get(key) for key in (CREATE, *keys)}
    return {key: event_id for key, event_id in ids.items() if event_id is not None}
