"""One state out of the states of a room's forks: gather, decide.

Rules of this file: the caller holds the room's lock, so that the room's auth graph stays as it is.
server-server-api#room-state-resolution
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from weakref import ref

from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.protocol.events import Event
from homeserver.protocol.state_resolution import (
    AuthGraph,
    Conflict,
    MissingEvents,
    find_conflict_in_deltas,
    needed_events,
    resolve_conflict,
)
from homeserver.store.auth_chains import auth_chain
from homeserver.store.database import Connection
from homeserver.store.state import StateKey
from homeserver.stream.changes import StateChange
from homeserver.stream.live_room import LiveRoom, State, changed_state
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.state_lineage import LINEAGE

IN_A_THREAD = 300
"""So many events to be judged take longer than the event loop may stand still."""
REMEMBERED = 500


class _Resolved(Struct, frozen=True, eq=False):
    """A resolution, by the ids of the states in memory, for as long as these are there."""

    states: tuple[ref[State], ...]
    state: ref[State]

    def is_of(self, states: Iterable[State]) -> bool:
        """Whether these states are the ones, not others that have got their ids."""
        return {id(state) for state in states} == {id(one()) for one in self.states}


class StateResolver:
    """Resolves states of live rooms."""

    def __init__(self, rooms: LiveRooms) -> None:
        self._rooms = rooms
        self._resolved: LruCache[tuple[int, ...], _Resolved] = LruCache(REMEMBERED)

    async def resolve(
        self,
        connection: Connection,
        room: LiveRoom,
        states: Sequence[State],
        coming: Event | None = None,
    ) -> State:
        """The resolution of at least one state. A few queries if they are in conflict.

        `coming`: the event of these states that the room doesn't hold yet.
        """
        first = states[0]
        if all(state is first for state in states):
            return first
        # As long as a fork lasts, each message of either side asks the same.
        different = {id(state): state for state in states}
        name = tuple(sorted(different))
        known = self._resolved.get(name)
        if known is not None and known.is_of(different.values()):
            resolved = known.state()
            if resolved is not None:
                return resolved
        resolved = await self._resolve(connection, room, states, coming)
        self._resolved.put(name, _Resolved(tuple(ref(different[i]) for i in name), ref(resolved)))
        return resolved

    async def _resolve(
        self,
        connection: Connection,
        room: LiveRoom,
        states: Sequence[State],
        coming: Event | None,
    ) -> State:
        first = states[0]
        keys = set[StateKey]().union(*(LINEAGE.differing(first, other) for other in states[1:]))
        # Compared with the first one, all of them are deltas in these keys.
        deltas = [{key: state.get(key) for key in keys} for state in states]
        conflict = find_conflict_in_deltas(room.rules, first, deltas)
        resolved: dict[StateKey, str] = {}
        if conflict.conflicted:
            held = {s.event_id: s.event for s in room.pending.values() if s.state_key is not None}
            if coming is not None and coming.is_state:
                held[coming.event_id] = coming
            graph = await self._graph(connection, room, conflict, states, held)
            needed = needed_events(room.rules, conflict, graph)
            events = await self._events(connection, held, needed)
            resolved = await self._decide(connection, room, conflict, events, held)
        changes = conflict.changes(resolved)
        if not changes:
            return first
        return changed_state(first, [StateChange(k, first.get(k), v) for k, v in changes.items()])

    async def _decide(
        self,
        connection: Connection,
        room: LiveRoom,
        conflict: Conflict,
        events: dict[str, Event],
        held: Mapping[str, Event],
    ) -> dict[StateKey, str]:
        graph = room.auth_graph
        assert graph is not None
        while True:
            try:
                if len(events) < IN_A_THREAD:
                    return resolve_conflict(room.rules, conflict, graph, events)
                return await asyncio.to_thread(
                    resolve_conflict, room.rules, conflict, graph, events
                )
            except MissingEvents as missing:
                more = await self._events(connection, held, missing.event_ids)
                if not more:
                    raise
                events |= more

    async def _graph(
        self,
        connection: Connection,
        room: LiveRoom,
        conflict: Conflict,
        states: Sequence[State],
        held: Mapping[str, Event],
    ) -> AuthGraph:
        """The room's auth graph, with at least these states and their auth chains in it.

        `held` are those events by id that Postgres doesn't have yet. A graph holds the room's whole
        state and all auth chains, but for what is `unknown` since it was made: that is read now.
        """
        if room.auth_graph is None:
            graph = AuthGraph()
            wanted = {event_id for state in states for event_id in state.values()}
            wanted.update(room.head.state.values())
        else:
            graph = room.auth_graph
            wanted = conflict.event_ids | graph.unknown
        wanted.update(event_id for event in held.values() for event_id in event.auth_events)
        wanted = {e for e in wanted if e not in graph and e not in held}
        links = await auth_chain(connection, wanted) if wanted else ()
        for link in links:
            graph.add(link.event_id, link.key, link.auth_events)
        for event in held.values():
            graph.add(event.event_id, event.key, event.auth_events)
        room.auth_graph = graph
        return graph

    async def _events(
        self, connection: Connection, held: Mapping[str, Event], event_ids: Iterable[str]
    ) -> dict[str, Event]:
        wanted = list(event_ids)
        found = {event_id: held[event_id] for event_id in wanted if event_id in held}
        missing = [event_id for event_id in wanted if event_id not in held]
        loaded = await self._rooms.events.get_many(connection, missing, self._rooms.rules_of)
        found.update((event_id, stored.event) for event_id, stored in loaded.items())
        return found
