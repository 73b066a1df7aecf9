"""Events that others refer to, stored without a place in the timeline: outliers.

They are judged by their auth events alone. server-server-api#rejection
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from homeserver.protocol.auth_rules import StateKey, check_auth_events, check_event
from homeserver.protocol.events import Event
from homeserver.protocol.rejection import Rejected
from homeserver.store.database import Database
from homeserver.store.events import EventRow, Flag
from homeserver.stream.changes import OutliersChange
from homeserver.stream.event_sources import CREATE, EventSource, create_id_of
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.receive import in_order
from homeserver.stream.redactions import Awaited, released
from homeserver.stream.stored_event import StoredEvent, unplaced_row
from homeserver.stream.take_in import RoomGone
from homeserver.stream.writer import StreamWriter

log = structlog.get_logger(__name__)


class Outliers:
    """Stores outliers of live rooms."""

    def __init__(self, database: Database, rooms: LiveRooms, writer: StreamWriter) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer

    async def store(self, room: LiveRoom, events: Sequence[Event]) -> None:
        """Store those of the events that we don't have and that can be judged; committed on return.

        The events passed the checks 1 to 3. Raises RoomGone, Unavailable.
        """
        async with room.lock:
            if room.dropped:
                raise RoomGone
            async with self._database.connection() as connection:
                source = EventSource(self._rooms, room, connection)
                await source.load([event.event_id for event in events])
                fresh = [e for e in in_order(events) if source.find(e.event_id) is None]
                cited = {id_ for event in fresh for id_ in event.auth_events}
                awaited = await Awaited.load(connection, room, [e.event_id for e in fresh])
                await source.load([*cited, *_create_ids(fresh), *awaited.redaction_ids()])
            if room.dropped:  # meanwhile: what they cite may never have been committed
                raise RoomGone
            rows = self._judge(room, source, fresh, awaited)
            if not rows:
                return
            change = OutliersChange(rows[-1].number, room.room_id, tuple(rows))
            committed = self._writer.submit(change)
        await committed

    def _judge(
        self, room: LiveRoom, source: EventSource, events: Sequence[Event], awaited: Awaited
    ) -> list[EventRow]:
        """No await in here, up to the submission: the numbers are given out."""
        rows = []
        for event in events:
            auth = [source.find(event_id) for event_id in event.auth_events]
            known = [one for one in auth if one is not None]
            if len(known) < len(auth):
                log.info("not stored", event_id=event.event_id, reason="an auth event is missing")
                continue
            flags = int(Flag.OUTLIER)
            create_id = create_id_of(event.rules, event.room_id)
            create = None if create_id is None else source.find(create_id)
            if not passes_auth_events(event, [one.event for one in known], create):
                flags |= Flag.REJECTED
            row = unplaced_row(
                event, room.number, self._writer.allocate(), [s.number for s in known], flags
            )
            # The redaction goes on waiting: it is shown when the event gets a place.
            hit = released(event, awaited.of(event), source.find).redaction
            if hit is not None:
                row = replace(row, redacted_by=hit.number)
            judged = event.as_rejected() if flags & Flag.REJECTED else event
            one = StoredEvent(row, room.rules, judged)
            one.redaction = hit
            source.hold(one)
            room.pending[one.event_id] = one
            rows.append(row)
        return rows


def passes_auth_events(
    event: Event, auth_events: Sequence[Event], create: StoredEvent | Event | None
) -> bool:
    """Check 4: "Passes authorisation rules based on the event's auth events".

    `create` is the create event that the room id of a version 12 room stands for.
    """
    state: dict[StateKey, Event] = {}
    if create is not None:
        state[CREATE] = create.event if isinstance(create, StoredEvent) else create
    try:
        check_auth_events(event.rules, event, auth_events)
        state.update((auth.key, auth) for auth in auth_events)
        check_event(event.rules, event, state)
    except Rejected as rejected:
        log.info("rejected", event_id=event.event_id, reason=rejected.reason)
        return False
    return True


def _create_ids(events: Sequence[Event]) -> set[str]:
    found = (create_id_of(event.rules, event.room_id) for event in events)
    return {create_id for create_id in found if create_id is not None}
