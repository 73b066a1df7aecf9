"""The timeline of a room in a sync: its newest events after `since`, from memory or from Postgres.

Rules of this file: a timeline is always the unbroken newest end, up to `upto`; what is left out
before it makes it `limited`. Tokens of a place in a room are `t<order>`: between the events of a
lower order and the event of this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.protocol.filters import EventMatcher
from homeserver.store import relations as relation_store
from homeserver.store import timeline as timeline_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import HIGHEST_ORDER, LOWEST_ORDER, ORDER_STEP
from homeserver.store.timeline import Stretch
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
DATABASE_PAGES = 10


class Window(Struct, frozen=True):
    """The stretch of a room that a sync covers, as timeline orders: `after < order <= upto`.

    `after` is None when the room is told from scratch.
    """

    room: LiveRoom
    after: int | None
    upto: int

    @property
    def floor(self) -> int:
        after = LOWEST_ORDER if self.after is None else self.after
        # Who left before it sees nothing of the break.
        return max(after, self.room.history_from) if self.room.history_from < self.upto else after

    @property
    def has_gap(self) -> bool:
        """Whether there may be more between `after` and where the room's history begins anew."""
        return self.floor != (LOWEST_ORDER if self.after is None else self.after)


class Timeline(Struct, frozen=True):
    """The events to show, oldest first. `start`: the order before which they begin.

    `has_holes`: whether events after the start may have been left out.
    """

    window: Window
    events: list[StoredEvent]
    limited: bool
    start: int
    in_memory: bool
    has_holes: bool = False

    @property
    def prev_batch(self) -> str:
        """Where to read on; from a timeline that holds everything there is nothing to read.

        For who asks with it for the members "at" this point, as suites do, it is its end.
        """
        if self.limited or self.window.after is not None:
            return f"t{self.start}"
        return f"t{self.start}.{min(HIGHEST_ORDER, self.window.upto + 1)}"


def order_of(stored: StoredEvent) -> int:
    """The place of a timeline event."""
    assert stored.order is not None
    return stored.order


def upto_order(position: int) -> int:
    """The order below which everything up to a stream position stands."""
    return min(HIGHEST_ORDER, position * ORDER_STEP + ORDER_STEP - 1)


def from_memory(window: Window, matcher: EventMatcher, limit: int) -> Timeline | None:
    """The timeline, if memory reaches back far enough and knows what the filter asks for."""
    if matcher.asks_for_relations:
        return None
    room = window.room
    entries = room.entries_after(max(window.floor, room.timeline_floor))
    if entries and entries[-1].order > window.upto:
        entries = [entry for entry in entries if entry.order <= window.upto]
    events = [entry.stored for entry in entries]
    filtered = not matcher.matches_all
    if filtered:
        events = matching(events, matcher, room.room_id)
    complete = room.timeline_floor <= window.floor
    if len(events) > limit:
        events = events[len(events) - limit :]
        return Timeline(window, events, True, _start(events, window), True, filtered)
    if not complete:
        return None
    # From scratch, "limited" tells that there is more to page back to.
    return Timeline(window, events, window.has_gap, _start(events, window), True, filtered)


async def from_database(
    window: Window, matcher: EventMatcher, limit: int, database: Database, rooms: LiveRooms
) -> Timeline:
    """The timeline read from Postgres, page by page where the filter leaves little."""
    found: list[StoredEvent] = []
    before = window.upto + 1 if window.upto < HIGHEST_ORDER else HIGHEST_ORDER
    page = max(50, limit + 1)
    exhausted = False
    async with database.connection() as connection:
        for _ in range(DATABASE_PAGES):
            number = window.room.number
            stretch = Stretch(number, window.floor, before, page, backwards=True)
            rows = await timeline_store.rows(connection, stretch)
            events = await rooms.events.adopt(connection, rows, rooms.rules_of)
            found.extend(
                await _related(connection, matching(events, matcher, window.room.room_id), matcher)
            )
            exhausted = len(rows) < page
            if exhausted or len(found) > limit:
                break
            before = order_of(events[-1])
    limited = len(found) > limit or not exhausted or window.has_gap
    events = found[:limit][::-1]
    start = _start(events, window) if events or exhausted else before
    return Timeline(window, events, limited, start, False, not matcher.matches_all)


def matching(
    events: Sequence[StoredEvent], matcher: EventMatcher, room_id: str
) -> list[StoredEvent]:
    """The events that a filter lets through."""
    if not matcher.room_allowed(room_id):
        return []
    return [stored for stored in events if allowed(matcher, stored)]


async def _related(
    connection: Connection, events: list[StoredEvent], matcher: EventMatcher
) -> list[StoredEvent]:
    """Those to which others relate in the way that a filter asks for."""
    if not matcher.asks_for_relations or not events:
        return events
    definition = matcher.definition
    kept = await relation_store.related(
        connection,
        [stored.event_id for stored in events],
        definition.related_by_rel_types,
        definition.related_by_senders,
    )
    return [stored for stored in events if stored.event_id in kept]


def allowed(matcher: EventMatcher, stored: StoredEvent) -> bool:
    """Whether a filter lets an event through."""
    return matcher.event_allowed(stored.type, stored.sender, lambda: stored.content)


def _start(events: Sequence[StoredEvent], window: Window) -> int:
    return order_of(events[0]) if events else window.upto + 1
