"""States by state group: the latest in memory, others from Postgres."""

from __future__ import annotations

from collections import OrderedDict
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
        self._loaded: OrderedDict[int, GroupState] = OrderedDict()
        self._loaded_entries = 0
        self._forgotten = 0

    def put(self, state_group: int, state: State, size: GroupSize) -> None:
        self._states.put(state_group, GroupState(state_group, state, size))

    def peek(self, state_group: int) -> GroupState | None:
        found = self._states.get(state_group)
        if found is None and (found := self._loaded.get(state_group)) is not None:
            self._loaded.move_to_end(state_group)
        return found

    def forget(self, state_groups: Iterable[int]) -> None:
        """These groups were completed: they are read anew."""
        self._forgotten += 1
        for group in state_groups:
            self._states.discard(group)
            self._let_go(self._loaded.pop(group, None))

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
            forgotten = self._forgotten
            sizes = await state_store.sizes(connection, missing)
            for group, entries in (await state_store.load(connection, missing)).items():
                loaded: State = Map({key: entry.event_id for key, entry in entries.items()})
                found[group] = GroupState(group, loaded, sizes[group])
                if forgotten == self._forgotten:  # else it may have been completed meanwhile
                    self._keep(found[group])
        return found

    def _keep(self, loaded: GroupState) -> None:
        """Remember what was read, at the cost of what was not asked for the longest."""
        self._let_go(self._loaded.pop(loaded.state_group, None))
        self._loaded[loaded.state_group] = loaded
        self._loaded_entries += len(loaded.state)
        while self._loaded_entries > LOADED_ENTRIES and len(self._loaded) > 1:
            self._let_go(self._loaded.popitem(last=False)[1])

    def _let_go(self, loaded: GroupState | None) -> None:
        if loaded is not None:
            self._loaded_entries -= len(loaded.state)


def group_after(stored: StoredEvent) -> int | None:
    """The group of the state after an event: a state event's own. None where we don't know it."""
    if stored.flags & Flag.OUTLIER:
        return None
    if stored.state_key is None or stored.flags & Flag.REJECTED:
        return stored.state_group
    if stored.state_group is None and stored.type != "m.room.create":
        return None
    return stored.number
