"""Which state events a sync shows beside a room's timeline.

Rules of this file: states are maps to event ids, decided without looking at an event; the events
themselves are loaded afterwards, for all rooms at once.
client-server-api#calculating-state-and-state_after-for-joined-rooms
"""

from __future__ import annotations

from collections.abc import Iterable

from immutables import Map

from homeserver.protocol.event_types import MEMBER
from homeserver.store import state as state_store
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.state import StateKey
from homeserver.stream.live_room import LiveRoom, State, TimelineEntry, state_difference
from homeserver.stream.sections.timeline import Timeline, Window

Shown = dict[StateKey, str]


class StateHistory:
    """States of rooms as they were, from memory or from Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def at(self, room: LiveRoom, order: int) -> State:
        """The room's current state as it was just before the event of this order."""
        if order > room.timeline_floor:
            return room.state_before(room.entries_after(order - 1))
        async with self._database.connection() as connection:
            moment = (room.number, (order - 1) // ORDER_STEP)
            groups = await state_store.current_at(connection, [moment])
            if moment not in groups:
                return Map()
            if groups[moment] == room.head.state_group and not room.pending:
                return room.state  # it hasn't changed since
            loaded = await state_store.load(connection, [groups[moment]])
        return Map({key: e.event_id for key, e in loaded[groups[moment]].items()})

    async def shown(self, timeline: Timeline, *, after: bool) -> Shown:
        """The state to show: at the timeline's start, or (`after`) at its end.

        From scratch it is the whole state; else what changed since `window.after`. A state event
        that the timeline leaves out is told here: clients would never learn of it. (Of a busy room
        it may leave out everything that was looked at, and begin all the same before the end.)
        """
        shown = await self._at_edge(timeline, after=after)
        if timeline.has_holes and timeline.start <= timeline.window.upto and not after:
            shown |= await self._left_out(timeline)
        return shown

    async def _at_edge(self, timeline: Timeline, *, after: bool) -> Shown:
        window = timeline.window
        moment = window.upto + 1 if after else timeline.start
        if window.after is None:
            return dict(await self.at(window.room, moment))
        if window.after >= window.room.timeline_floor:
            return _changed_in_memory(timeline, window, after=after)
        old = await self.at(window.room, window.after + 1)
        new = await self.at(window.room, moment)
        return {c.key: c.new for c in state_difference(old, new) if c.new is not None}

    async def _left_out(self, timeline: Timeline) -> Shown:
        """What is current at the timeline's end, was not at its start, and is not in it."""
        window = timeline.window
        told = {stored.event_id for stored in timeline.events}
        old = await self.at(window.room, timeline.start)
        new = await self.at(window.room, window.upto + 1)
        changes = state_difference(old, new)
        return {c.key: c.new for c in changes if c.new is not None and c.new not in told}


def _changed_in_memory(timeline: Timeline, window: Window, *, after: bool) -> Shown:
    assert window.after is not None
    shown: Shown = {}
    for entry in window.room.entries_after(window.after):
        if entry.order > window.upto:
            break
        if not entry.state_changes:
            continue
        in_timeline = entry.order >= timeline.start
        for change in entry.state_changes:
            if change.new is None:
                shown.pop(change.key, None)
            elif after or not in_timeline or _only_resolved(entry, change.new):
                shown[change.key] = change.new
    return shown


def _only_resolved(entry: TimelineEntry, event_id: str) -> bool:
    """Whether a state event became current by state resolution, without being in the timeline.

    Clients that fold timelines would otherwise never learn of it.
    """
    return entry.stored.event_id != event_id


def without_other_members(shown: Shown, users: Iterable[str]) -> Shown:
    """Lazy-loading: of the member events only those of these users."""
    kept = {key: event_id for key, event_id in shown.items() if key[0] != MEMBER}
    for user_id in users:
        event_id = shown.get((MEMBER, user_id))
        if event_id is not None:
            kept[(MEMBER, user_id)] = event_id
    return kept
