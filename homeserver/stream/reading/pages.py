"""Pages of a room's timeline as one reader sees it: from memory, else with one query.

Rules of this file: a page never shows what the reader may not see, nor anything that isn't
published yet; hidden stretches are jumped over, not scanned. What one page looks at is bounded:
a filter that lets little through makes short (even empty) pages with a place to go on from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.protocol.filters import EVERY_ROOM_EVENT, EventMatcher
from homeserver.store import events as event_store
from homeserver.store import timeline as timeline_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import LOWEST_ORDER
from homeserver.store.timeline import Found, Narrowing, Stretch
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.reading.places import place_after
from homeserver.stream.reading.readers import Reader, Readers, Span
from homeserver.stream.sections.timeline import matching, order_of
from homeserver.stream.stored_event import StoredEvent

MAX_STEPS = 5
SCANNED_AT_ONCE = 5000
"""How many events a filter may look through in one step."""

MAX_FILLS = 3

MayRead = Callable[[int], bool]
MoreHistory = Callable[[LiveRoom, tuple[int, int], int, MayRead], Awaitable[bool]]
"""Fetches from other servers up to so many events that are missing below events of a room with
`after < order <= upto`, if the orders there may be read; were there any?"""


class Asked(Struct, frozen=True):
    """A page: from `place` in one direction, not beyond the place `to`.

    Of `ignored` users there are only state events. client-server-api#ignoring-users
    """

    place: int
    backwards: bool
    limit: int
    to: int | None = None
    matcher: EventMatcher = EVERY_ROOM_EVENT
    ignored: frozenset[str] = frozenset()


class Page(Struct):
    """The events in the direction asked. `end`: the place to go on from, None if all was read."""

    events: list[StoredEvent] = field(default_factory=list)
    end: int | None = None


class Pages:
    """Reads pages. `more_history` is asked when a page runs out of what this server has."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        readers: Readers,
        ignored: IgnoredUsers,
        newest: Callable[[], int],
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._readers = readers
        self._ignored = ignored
        self.newest = newest
        self.more_history: MoreHistory | None = None

    def newest_place(self) -> int:
        """The place after everything that is visible now."""
        return place_after(self.newest())

    async def read(self, reader: Reader, asked: Asked) -> Page:
        """The next page: at most two queries without a filter, if its events are plain ones."""
        matcher = asked.matcher
        if not matcher.room_allowed(reader.room.room_id) or asked.limit == 0:
            return Page([], asked.place if asked.limit == 0 else None)
        ignored = await self._ignored.of(reader.user_id)
        if ignored:
            asked = replace(asked, ignored=ignored)
        page = self._from_memory(reader, asked)
        if page is not None:
            return page
        page = await self._walk(reader, asked)
        for _ in range(MAX_FILLS):
            if not await self._is_more_complete(reader, asked, page):
                break
            await self._readers.learn_history_again(reader)
            page = await self._walk(reader, asked)
        else:
            if asked.backwards and page.end is None:  # there may be more: it is asked for again
                page.end = order_of(page.events[-1]) if page.events else asked.place
        return page

    async def _is_more_complete(self, reader: Reader, asked: Asked, page: Page) -> bool:
        """Whether something that was missing in the page's stretch is here now."""
        if asked.backwards:
            span = (LOWEST_ORDER if page.end is None else page.end, asked.place)
        else:
            span = (asked.place, self.newest_place() if page.end is None else page.end - 1)
        if self.more_history is None or reader.room.history_from < max(span[0], LOWEST_ORDER + 1):
            return False
        missing = asked.limit - len(page.events)
        return await self.more_history(reader.room, span, missing, partial(_may_read, reader))

    async def fill_before(self, reader: Reader, order: int, limit: int) -> bool:
        """Fetch from other servers what is missing right before the event of an order, if the
        reader may see so far back; was there any?
        """
        if self.more_history is None or reader.room.history_from < order - 1:
            return False
        span = (order - 1, order)
        if not await self.more_history(reader.room, span, limit, partial(_may_read, reader)):
            return False
        await self._readers.learn_history_again(reader)
        return True

    def _from_memory(self, reader: Reader, asked: Asked) -> Page | None:
        """The page, if all that it could hold is in memory and certainly visible."""
        if asked.matcher.asks_for_relations:
            return None
        room = reader.room
        floor = max(room.timeline_floor, room.history_from, reader.certain_from - 1)
        if not asked.backwards:
            if asked.place <= floor:
                return None
            ceiling = self.newest_place() if asked.to is None else asked.to
            found = _between(room, asked.place, ceiling)
            return _cut(asked, _matching(asked, room, found))
        if asked.place <= floor:
            return None
        lowest = LOWEST_ORDER if asked.to is None else asked.to
        found = _between(room, max(floor + 1, lowest), min(asked.place, self.newest_place()))
        events = _matching(asked, room, found[::-1])
        if len(events) <= asked.limit and floor >= lowest:
            return None
        return _cut(asked, events)

    async def _walk(self, reader: Reader, asked: Asked) -> Page:
        """The page from Postgres, step by step over what the reader may see."""
        span = self._span(asked)
        events: list[StoredEvent] = []
        for _ in range(MAX_STEPS):
            spans = reader.spans(span)
            if not spans:
                return _cut(asked, events)
            step = spans[-1] if asked.backwards else spans[0]
            found, read = await self._step(reader, asked, step, asked.limit + 1 - len(events))
            events += found
            if len(events) > asked.limit:
                return _cut(asked, events)
            span = (span[0], read) if asked.backwards else (read - 1, span[1])
        return Page(events, span[1] if asked.backwards else span[0] + 1)

    def _span(self, asked: Asked) -> Span:
        newest = self.newest_place()
        if asked.backwards:
            return (LOWEST_ORDER if asked.to is None else asked.to - 1, min(asked.place, newest))
        return (asked.place - 1, newest if asked.to is None else min(asked.to, newest))

    async def _step(
        self, reader: Reader, asked: Asked, span: Span, wanted: int
    ) -> tuple[list[StoredEvent], int]:
        """What one query finds in a span, and the place up to which it has read."""
        stretch = Stretch(reader.room.number, *span, wanted, asked.backwards)
        relations_seen = self._rooms.relations_seen
        async with self._database.connection() as connection:
            found, read = await self._query(connection, reader, asked.matcher, stretch)
            events = await self._events(connection, found)
        quiet = relations_seen == self._rooms.relations_seen
        for stored, each in zip(events, found, strict=True):
            if each.has_children or (quiet and stored.has_children is None):
                stored.has_children = each.has_children
        oldest = events[-1 if asked.backwards else 0] if events else None
        if oldest is None or order_of(oldest) >= reader.certain_from:
            return _matching(asked, reader.room, events), read
        await self._readers.learn_about(reader, events)
        visible = [stored for stored in events if reader.allows(stored)]
        return _matching(asked, reader.room, visible), read

    async def _events(self, connection: Connection, found: Found) -> list[StoredEvent]:
        """The events found, from memory; those that aren't there in one query more."""
        cache = self._rooms.events
        held = {each.number: cache.peek(each.event_id) for each in found}
        missing = [number for number, stored in held.items() if stored is None]
        if missing:
            rows = await event_store.by_numbers(connection, missing)
            adopted = await cache.adopt(connection, rows, self._rooms.rules_of)
            held.update(zip((row.number for row in rows), adopted, strict=True))
        return [stored for stored in held.values() if stored is not None]

    async def _query(
        self, connection: Connection, reader: Reader, matcher: EventMatcher, stretch: Stretch
    ) -> tuple[Found, int]:
        if matcher.matches_all:
            found = await timeline_store.page(connection, stretch)
            return found, _read_up_to(stretch, found)
        scan = Stretch(
            stretch.room_number, stretch.after, stretch.before, SCANNED_AT_ONCE, stretch.backwards
        )
        last = await timeline_store.order_at(connection, scan)
        if last is not None:
            stretch = _shortened(stretch, last)
        found = await timeline_store.narrowed_page(connection, stretch, _narrowing(matcher))
        return found, _read_up_to(stretch, found)


def _may_read(reader: Reader, order: int) -> bool:
    return reader.history is None or reader.history.allows(order)


def _between(room: LiveRoom, first: int, before: int) -> list[StoredEvent]:
    entries = room.entries_after(first - 1)
    return [entry.stored for entry in entries if entry.order < before]


def _matching(asked: Asked, room: LiveRoom, events: list[StoredEvent]) -> list[StoredEvent]:
    if asked.ignored:
        events = [s for s in events if s.state_key is not None or s.sender not in asked.ignored]
    if asked.matcher.matches_all:
        return events
    return matching(events, asked.matcher, room.room_id)


def _cut(asked: Asked, events: Sequence[StoredEvent]) -> Page:
    """At most `limit` events, there being nothing beyond those that are given.

    Forward there may be more tomorrow: who reads on gets a place unless they got nothing.
    """
    kept = list(events[: asked.limit])
    if not kept:
        return Page([], None)
    last = order_of(kept[-1])
    if not asked.backwards:
        return Page(kept, last + 1)
    return Page(kept, last if len(events) > asked.limit else asked.to)


def _read_up_to(stretch: Stretch, found: Found) -> int:
    """The place up to which a query has read: the span's own end if it found less than asked."""
    if len(found) < stretch.limit:
        return stretch.after + 1 if stretch.backwards else stretch.before
    order = found[-1].order
    return order if stretch.backwards else order + 1


def _shortened(stretch: Stretch, last: int) -> Stretch:
    after = last - 1 if stretch.backwards else stretch.after
    before = stretch.before if stretch.backwards else last + 1
    return Stretch(stretch.room_number, after, before, stretch.limit, stretch.backwards)


def _narrowing(matcher: EventMatcher) -> Narrowing:
    definition = matcher.definition
    return Narrowing(
        types=_without_wildcards(definition.types),
        not_types=_excluded(definition.not_types),
        senders=_listed(definition.senders),
        not_senders=_listed(definition.not_senders),
        contains_url=definition.contains_url is True,
        related_by_types=_listed(definition.related_by_rel_types),
        related_by_senders=_listed(definition.related_by_senders),
    )


def _without_wildcards(names: Sequence[str] | None) -> list[str] | None:
    """Names to include, None if any of them is a pattern: then the matcher has to tell."""
    return None if names is None or any("*" in name for name in names) else list(names)


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _excluded(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else [name for name in names if "*" not in name]
