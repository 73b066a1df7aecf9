"""An event of the past becomes part of a room: judged by its auth events, it changes no state.

Rules of this file: no `await`: numbers are given out here, and submitted by the caller, who holds
the room's lock; what the events refer to is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from homeserver.protocol.event_types import REDACTION
from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import power_levels_of
from homeserver.store.events import EventRow, Flag
from homeserver.stream.changes import EventChange
from homeserver.stream.event_sources import CREATE, POWER_LEVELS, EventSource, create_id_of
from homeserver.stream.hidden_events import is_hidden
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.outliers import passes_auth_events
from homeserver.stream.redactions import (
    NOTHING,
    Awaited,
    Effect,
    effect_of,
    placings,
    released,
    waiting,
)
from homeserver.stream.stored_event import StoredEvent, unplaced_row
from homeserver.stream.writer import StreamWriter


class _Place(Struct, frozen=True):
    """A stream position, and a place in the timeline."""

    position: int
    order: int


class Past:
    """Makes changes of events of one room, each after those that it refers to."""

    def __init__(
        self, room: LiveRoom, source: EventSource, awaited: Awaited, writer: StreamWriter
    ) -> None:
        self.source = source
        self._room = room
        self._awaited = awaited
        self._writer = writer

    def changes(self, event: Event, auth: Sequence[StoredEvent], order: int) -> list[EventChange]:
        """What is to be written of an event at an order; `auth` are its auth events."""
        create_id = create_id_of(event.rules, event.room_id)
        create = None if create_id is None else self.source.find(create_id)
        accepted = passes_auth_events(event, [stored.event for stored in auth], create)
        effect = self._effect(event, auth, create) if accepted else None
        hit, flags = NOTHING, Flag.REJECTED
        if accepted:
            hit = released(event, self._awaited.of(event), self.source.find)
            flags = Flag.HIDDEN if is_hidden(event, effect) else 0
        position = self._writer.allocate()
        row = self._row(event, auth, _Place(position, order), flags)
        redaction = self._redaction(event) or hit.redaction
        if redaction is not None:
            row = replace(row, redacted_by=redaction.number)
        stored = StoredEvent(row, self._room.rules, event if accepted else event.as_rejected())
        stored.redaction = redaction
        change = self._change(stored, row, _Place(position, order), effect)
        self._room.pending[event.event_id] = stored
        self.source.hold(stored)
        if flags:
            return [change]
        more = placings(self._room, hit, self._writer)
        return [replace(change, awaited_by=hit.done), *more]

    def _redaction(self, event: Event) -> StoredEvent | None:
        """By which an outlier that we had was redacted already."""
        known = self.source.find(event.event_id)
        return None if known is None else known.redaction

    def _row(
        self, event: Event, auth: Sequence[StoredEvent], place: _Place, flags: int
    ) -> EventRow:
        known = self.source.find(event.event_id)
        number = place.position if known is None else known.number
        numbers = [stored.number for stored in auth]
        row = unplaced_row(event, self._room.number, number, numbers, flags)
        return row if flags else replace(row, timeline_order=place.order)

    def _change(
        self, stored: StoredEvent, row: EventRow, place: _Place, effect: Effect | None
    ) -> EventChange:
        event = stored.event
        prev = [(id_, self.source.find(id_)) for id_ in event.prev_events]
        return EventChange(
            position=place.position,
            room_id=self._room.room_id,
            row=row,
            stored=stored,
            head=None,
            in_timeline=False,
            redacts=None if effect is None else effect.target,
            was_outlier=row.number != place.position,
            missing=tuple(id_ for id_, one in prev if one is None or one.flags & Flag.OUTLIER),
            fills_gap=True,
            gap_order=place.order,
            waits=waiting(self._room, event, effect, row.number, place.order),
        )

    def _effect(
        self, event: Event, auth: Sequence[StoredEvent], create: StoredEvent | None
    ) -> Effect | None:
        """What a redaction of the past does, by the power levels that it cites."""
        if event.type != REDACTION or event.redacts is None:
            return None
        by_key = {stored.event.key: stored.event for stored in auth}
        start = by_key.get(CREATE) or (None if create is None else create.event)
        if start is None:
            return None
        power = power_levels_of(event.rules, start, by_key.get(POWER_LEVELS))
        return effect_of(event, self.source.find(event.redacts), power)
