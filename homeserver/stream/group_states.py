"""States by state group: the latest in memory, others from Postgres."""

from __future__ import annotations

from collections.abc import Iterable

from immutables import Map

from homeserver.lru_cache import LruCache
from homeserver.store import state as state_store
from homeserver.store.database import Connection
from homeserver.store.events import Flag
from homeserver.stream.live_room import State
from homeserver.stream.stored_event import StoredEvent

REMEMBERED = 1000
"""Most of them share nearly all of their structure."""


class GroupStates:
    """What each state group holds. A group never changes."""

    def __init__(self) -> None:
        self._states: LruCache[int, State] = LruCache(REMEMBERED)

    def put(self, state_group: int, state: State) -> None:
        self._states.put(state_group, state)

    async def get_many(
        self, connection: Connection, state_groups: Iterable[int]
    ) -> dict[int, State]:
        """The states of these groups; at most one query."""
        found: dict[int, State] = {}
        missing: list[int] = []
        for group in set(state_groups):
            state = self._states.get(group)
            if state is None:
                missing.append(group)
            else:
                found[group] = state
        if missing:
            loaded = await state_store.load(connection, missing)
            for group, entries in loaded.items():
                found[group] = Map({key: entry.event_id for key, entry in entries.items()})
                self.put(group, found[group])
        return found


def group_after(stored: StoredEvent) -> int | None:
    """The group of the state after an event: a state event's own. None where we don't know it."""
    if stored.state_key is None or stored.flags & Flag.REJECTED:
        return stored.state_group
    if stored.flags & Flag.OUTLIER:
        return None
    if stored.state_group is None and stored.type != "m.room.create":
        return None
    return stored.number
