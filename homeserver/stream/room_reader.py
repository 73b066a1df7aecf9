"""A room is read from Postgres: its head, its state, its members and the end of its timeline."""

from __future__ import annotations

from collections.abc import Sequence

from immutables import Map

from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.store import backward_extremities as gap_store
from homeserver.store import rooms as room_store
from homeserver.store import state as state_store
from homeserver.store import timeline as timeline_store
from homeserver.store import visibility as visibility_store
from homeserver.store import waiting_redactions as waiting_store
from homeserver.store.database import Connection
from homeserver.store.events import LOWEST_ORDER, ORDER_STEP, Flag
from homeserver.store.rooms import LoadedHead, MembershipRow
from homeserver.store.state import StateKey
from homeserver.stream.changes import (
    StateChange,
)
from homeserver.stream.event_cache import EventCache
from homeserver.stream.live_room import (
    EVERYTHING_IN_MEMORY,
    Head,
    LiveRoom,
    State,
    TimelineEntry,
    state_difference,
)
from homeserver.stream.stored_event import StoredEvent

LOADED_EVENTS = 30
"""Of a room's timeline, when the room is loaded: what clients ask for at first. It grows then."""


class RoomReader:
    """`events` gets the events that are read, and the versions of the rooms."""

    def __init__(self, events: EventCache) -> None:
        self._events = events

    async def read(self, connection: Connection, room_ids: Sequence[str]) -> list[LiveRoom]:
        """Those of these rooms whose state we have, in a fixed number of queries."""
        heads = await room_store.heads_by_ids(connection, room_ids)
        if not heads:
            return []
        numbers = [loaded.room.room_number for loaded in heads]
        for loaded in heads:
            self._events.rules[loaded.room.room_number] = ROOM_VERSIONS[loaded.room.version]
        states = await state_store.load(connection, [loaded.head.state_group for loaded in heads])
        members: dict[int, dict[str, MembershipRow]] = {number: {} for number in numbers}
        for row in await room_store.memberships_of_rooms(connection, numbers):
            members[row.room_number][row.user_id] = row
        timelines = await self._read_timelines(connection, numbers)
        starts = await visibility_store.latest_starts(connection, numbers)
        gaps = await gap_store.of_rooms(connection, numbers)
        awaiting = await waiting_store.rooms_with_any(connection, numbers)
        rooms = [
            _live(
                loaded,
                _event_ids(states[loaded.head.state_group]),
                members[loaded.room.room_number],
                timelines[loaded.room.room_number],
            )
            for loaded in heads
        ]
        for room in rooms:
            room.entered_at = starts.get(room.number, LOWEST_ORDER)
            room.missing = gaps.get(room.number, {})
            begins = max(LOWEST_ORDER + 1, room.entered_at, *room.missing.values())
            room.history_from = begins - 1
            room.awaits_targets = room.number in awaiting
        return rooms

    async def _read_timelines(
        self, connection: Connection, numbers: Sequence[int]
    ) -> dict[int, list[TimelineEntry]]:
        rows = await timeline_store.ends(connection, numbers, LOADED_EVENTS)
        stored = await self._events.adopt(connection, rows, self._events.rules.__getitem__)
        timelines: dict[int, list[TimelineEntry]] = {number: [] for number in numbers}
        for row, event in zip(rows, stored, strict=True):
            changes = await self._state_changes(connection, row.room_number, event)
            assert row.timeline_order is not None
            timelines[row.room_number].append(TimelineEntry(row.timeline_order, event, changes))
        return timelines

    async def _state_changes(
        self, connection: Connection, room_number: int, event: StoredEvent
    ) -> tuple[StateChange, ...]:
        """What a timeline event changed in the current state; queries only after a resolution."""
        if event.flags & Flag.RESOLVED and event.order == event.number * ORDER_STEP:
            return await self._resolved_changes(connection, room_number, event.number)
        if event.state_key is None:
            return ()
        return (StateChange((event.type, event.state_key), event.replaces_id, event.event_id),)

    async def _resolved_changes(
        self, connection: Connection, room_number: int, position: int
    ) -> tuple[StateChange, ...]:
        moments = [(room_number, position - 1), (room_number, position)]
        groups = await state_store.current_at(connection, moments)
        states = await state_store.load(connection, groups.values())
        before, after = (_event_ids(states.get(groups.get(m, -1), {})) for m in moments)
        return state_difference(before, after)


def _live(
    loaded: LoadedHead,
    state: State,
    members: dict[str, MembershipRow],
    timeline: list[TimelineEntry],
) -> LiveRoom:
    full = len(timeline) >= LOADED_EVENTS
    head = loaded.head
    return LiveRoom(
        room_id=loaded.room.room_id,
        number=loaded.room.room_number,
        rules=ROOM_VERSIONS[loaded.room.version],
        head=Head(head.forward_extremities, head.depth, state, head.state_group, loaded.size),
        state=state,
        members=members,
        timeline=timeline,
        timeline_floor=timeline[0].order - 1 if full else EVERYTHING_IN_MEMORY,
        last_position=head.last_position,
        entry=loaded.entry,
    )


def _event_ids(entries: dict[StateKey, state_store.StateEntry]) -> State:
    return Map({key: entry.event_id for key, entry in entries.items()})
