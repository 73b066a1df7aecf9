"""Redactions and the events that they hit, whichever of the two comes first.

Rules of this file: a redaction that hits nothing (yet) has no place in the timeline, so no client
is told of it; other servers are, it is part of the room like any event. When its target gets a
place, so does the redaction. The caller holds the room's lock.
rooms/v3#handling-redactions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from homeserver.protocol.auth_rules import may_redact
from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels
from homeserver.store import waiting_redactions as store
from homeserver.store.database import Connection
from homeserver.store.events import ORDER_STEP, Flag
from homeserver.store.waiting_redactions import WaitingRedaction
from homeserver.stream.changes import EventChange
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.stored_event import StoredEvent, unplaced_row
from homeserver.stream.writer import StreamWriter


class Effect(Struct, frozen=True):
    """What a redaction does now. `target`: the event id that it hits, if any.

    `waits`: its target isn't there; `by_power` says what counts when it comes.
    """

    target: str | None = None
    waits: bool = False
    by_power: bool = False


def effect_of(event: Event, target: StoredEvent | None, power: PowerLevels) -> Effect:
    """What an accepted redaction does; `target` is what we have of the event that it names."""
    if event.redacts is None or event.redacts == event.event_id:
        return Effect()
    if target is None:
        by_power = event.rules.redaction_rule or power.user(event.sender) >= power.redact
        return Effect(waits=True, by_power=by_power)
    # "If both events are valid", which a rejected one is not.
    is_valid = not target.flags & Flag.REJECTED and target.type != "m.room.create"
    if is_valid and may_redact(event, target.event, power):
        return Effect(event.redacts)
    return Effect()


def waiting(
    room: LiveRoom, event: Event, effect: Effect | None, number: int, order: int
) -> WaitingRedaction | None:
    """What is to be remembered of a redaction that waits; from now on the room knows of it."""
    if effect is None or not effect.waits or event.redacts is None:
        return None
    row = WaitingRedaction(
        number, room.number, event.event_id, event.redacts, effect.by_power, order
    )
    room.waiting_redactions[event.event_id] = row
    room.awaits_targets = True
    return row


class Awaited:
    """Which redactions wait for events that are coming into a room now."""

    def __init__(self, room: LiveRoom, stored: Iterable[WaitingRedaction]) -> None:
        self._room = room
        self._stored = {row.event_id: row for row in stored}

    @staticmethod
    async def load(connection: Connection, room: LiveRoom, event_ids: Iterable[str]) -> Awaited:
        """No query in a room in which none waits."""
        if not room.awaits_targets:
            return Awaited(room, ())
        # What is being committed meanwhile is in Postgres, or was in memory before.
        uncommitted = list(room.waiting_redactions.values())
        rows = await store.of_targets(connection, room.number, event_ids)
        return Awaited(room, [*uncommitted, *rows])

    def redaction_ids(self) -> list[str]:
        """The redactions that may be wanted in memory."""
        return list({**self._stored, **self._room.waiting_redactions})

    def of(self, event: Event) -> list[WaitingRedaction]:
        """Those that wait for this event, the oldest first."""
        rows = {**self._stored, **self._room.waiting_redactions}.values()
        return sorted((r for r in rows if r.redacts == event.event_id), key=lambda r: r.number)


class Released(Struct, frozen=True):
    """What follows from a target's coming: the redactions that hit it, with the places that are
    their own, the first being the one that counts; and those (numbers) that wait no more."""

    hits: tuple[tuple[StoredEvent, int], ...] = ()
    done: tuple[int, ...] = ()

    @property
    def redaction(self) -> StoredEvent | None:
        """The one by which the target is redacted from the start."""
        return self.hits[0][0] if self.hits else None


NOTHING = Released()


def released(
    event: Event, rows: Sequence[WaitingRedaction], find: Callable[[str], StoredEvent | None]
) -> Released:
    """Which of the redactions that waited for a valid event hit it; `find` finds them in memory."""
    if not rows:
        return NOTHING
    hits = []
    for row in rows:
        stored = find(row.event_id)
        if stored is None or event.type == "m.room.create":
            continue
        if row.by_power or stored.event.server_name == event.server_name:
            hits.append((stored, row.timeline_order))
    return Released(tuple(hits), tuple(row.number for row in rows))


def placings(room: LiveRoom, target: Released, writer: StreamWriter) -> list[EventChange]:
    """The hidden ones among the redactions that hit a target of the past get their own places."""
    return [
        _placing(room, stored, writer.allocate(), order, is_live=False)
        for stored, order in target.hits
        if stored.flags & Flag.HIDDEN
    ]


def live_placings(room: LiveRoom, target: Released, writer: StreamWriter) -> list[EventChange]:
    """The hidden ones among the redactions that hit a new event are told after it."""
    changes = []
    for stored, _ in target.hits:
        if stored.flags & Flag.HIDDEN:
            position = writer.allocate()
            order = position * ORDER_STEP
            changes.append(_placing(room, stored, position, order, is_live=True))
    return changes


def _placing(
    room: LiveRoom, redaction: StoredEvent, position: int, order: int, *, is_live: bool
) -> EventChange:
    flags = redaction.flags & ~Flag.HIDDEN
    # Its auth events are in its row already.
    row = replace(
        unplaced_row(redaction.event, room.number, redaction.number, (), flags),
        timeline_order=order,
        state_group=redaction.state_group,
        replaces=redaction.replaces,
        redacted_by=redaction.redacted_by,
    )
    stored = StoredEvent(row, room.rules, redaction.event)
    stored.redaction = redaction.redaction
    room.pending[stored.event_id] = stored
    return EventChange(
        position=position,
        room_id=room.room_id,
        row=row,
        stored=stored,
        head=None,
        in_timeline=is_live,
        redacts=redaction.event.redacts,
        was_outlier=True,
    )
