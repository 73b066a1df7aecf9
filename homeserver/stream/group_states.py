"""States by state group: the latest in memory, others from Postgres."""

from __future__ import annotations

from collections.abc import Iterable

from immutables import Map
from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.store import state as state_store
from homeserver.store.database import Connection
from homeserver.store.events import Flag
from homeserver.store.state import GroupSize
from homeserver.stream.live_room import State
from homeserver.stream.stored_event import StoredEvent

REMEMBERED = 2000
"""Of those made here: each shares nearly all of its structure with the one before it."""
LOADED_ENTRIES = 500_000
"""Of those read from Postgres, which share nothing: about 100 MB."""


class GroupState(Struct, frozen=True):
    """What a state group holds, and how long its chain is."""

    state_group: int
    state: State
    size: GroupSize


class GroupStates:
    """The states of groups; those not yet committed are all in memory.

    A group never changes, but for one that was written before its whole state was known.
    """

    def __init__(self) -> None:
        self._states: LruCache[int, GroupState] = LruCache(REMEMBERED)
        self._loaded: LruCache[int, GroupState] = LruCache(
            LOADED_ENTRIES, weigh=lambda group: len(group.state)
        )

    def put(self, state_group: int, state: State, size: GroupSize) -> None:
        self._states.put(state_group, GroupState(state_group, state, size))

    def peek(self, state_group: int) -> GroupState | None:
        return self._states.get(state_group) or self._loaded.get(state_group)

    def forget(self, state_groups: Iterable[int]) -> None:
        """These groups were completed: they are read anew."""
        for group in state_groups:
            self._states.discard(group)
            self._loaded.discard(group)

    async def get_many(
        self, connection: Connection, state_groups: Iterable[int]
    ) -> dict[int, GroupState]:
        """The states of these groups; at most two queries."""
        found: dict[int, GroupState] = {}
        missing: list[int] = []
        for group in set(state_groups):
            state = self.peek(group)
            if state is None:
                missing.append(group)
            else:
                found[group] = state
        if missing:
            discards = self._loaded.discards
            sizes = await state_store.sizes(connection, missing)
            for group, entries in (await state_store.load(connection, missing)).items():
                loaded: State = Map({key: entry.event_id for key, entry in entries.items()})
                found[group] = GroupState(group, loaded, sizes[group])
                self._loaded.put_read(group, found[group], discards)
        return found


def group_after(stored: StoredEvent) -> int | None:
    """The group of the state after an event: a state event's own. None where we don't know it."""
    if stored.flags & Flag.OUTLIER:
        return None
    if stored.state_key is None or stored.flags & Flag.REJECTED:
        return stored.state_group
    if stored.state_group is None and stored.type != "m.room.create":
        return None
    return stored.number
