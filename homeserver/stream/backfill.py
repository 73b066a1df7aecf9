"""History that only other servers have: fetched when somebody reads over a place that lacks it.

Rules of this file: an event of the past is judged by its auth events (check 4); it changes no
state. It gets a place below what refers to it, above what is older. Gaps are filled one by one:
what is missing below a lower event too is left for that one's turn, or it would stand above it.
server-server-api#get_matrixfederationv1backfillroomid
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from weakref import WeakValueDictionary

import structlog
from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import MatrixError, Unavailable
from homeserver.lru_cache import LruCache
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import is_event_id
from homeserver.remote.client import Terms, path_to
from homeserver.store import backward_extremities as gap_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import ORDER_STEP, Flag
from homeserver.stream.changes import EventChange
from homeserver.stream.event_sources import EventSource, create_id_of
from homeserver.stream.gaps import Gaps
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.past_events import Past
from homeserver.stream.receive import in_order
from homeserver.stream.redactions import Awaited
from homeserver.stream.writer import StreamWriter

AT_LEAST = 100
MAX_EVENTS = 500
MAX_SERVERS = 3
MAX_STARTS = 20
MAX_GAPS = 3
AGAIN_MS = 60_000
"""A gap that nobody could fill is not asked about again before that."""
MAX_BETWEEN = 2**30
"""So many events at most are left room for, whatever depth an event claims."""
TERMS = Terms(seconds=20.0, max_bytes=64 * 1024 * 1024)

log = structlog.get_logger(__name__)


class _Place(Struct, frozen=True):
    """Where events are put: the orders below `before`, in steps of `step`."""

    before: int
    step: int


class _Gap(Struct, frozen=True):
    """Events that are missing before the event at the order `before`.

    `is_far`: they aren't what that event refers to: there may be many more in between.
    """

    missing: Sequence[str]
    before: int
    is_far: bool = False


class Backfill:
    """Fetches history of rooms that we are in."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        writer: StreamWriter,
        gaps: Gaps,
        clock: Clock,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self._gaps = gaps
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._failed: LruCache[str, int] = LruCache(1000)

    async def more_history(
        self, room: LiveRoom, span: tuple[int, int], limit: int, may_read: Callable[[int], bool]
    ) -> bool:
        """Fetch about `limit` events that are missing below the newest event (in a span of orders
        `after < order <= upto`) that refers to any which may be read; were there any?
        """
        lock = self._locks.setdefault(room.room_id, asyncio.Lock())
        async with lock:
            async with self._database.connection() as connection:
                gaps = await gap_store.between(connection, room.number, *span)
            now = self._clock()
            starts: dict[int, list[str]] = {}
            for event_id, order in gaps:
                if now - (self._failed.get(event_id) or 0) > AGAIN_MS and may_read(order - 1):
                    starts.setdefault(order, []).append(event_id)
            for order in list(starts)[:MAX_GAPS]:
                event_ids = starts[order][:MAX_STARTS]
                if await self._fill(room, event_ids, order, max(AT_LEAST, min(limit, MAX_EVENTS))):
                    return True
                for event_id in event_ids:
                    self._failed.put(event_id, now)
            return False

    async def take(self, room: LiveRoom, server: str, events: Sequence[Event]) -> set[str]:
        """Of events that a server sent, those from before we entered the room get their places,
        as far as they lead back from what we have; their ids.
        """
        left = {event.event_id: event for event in events}
        orders = {room.missing[id_] for id_ in left if id_ in room.missing}
        taken: set[str] = set()
        for order in sorted(order for order in orders if order <= room.entered_at):
            starts = [id_ for id_ in left if room.missing.get(id_) == order]
            history = _connected(starts, left)
            await self._take(room, server, _Gap(starts, order), history)
            for event in history:
                del left[event.event_id]
                taken.add(event.event_id)
        return taken

    async def _fill(self, room: LiveRoom, starts: Sequence[str], order: int, wanted: int) -> bool:
        """Fetch what is missing below the event of an order; was there any?"""
        for server in self._servers(room):
            told = await self._ask(room, server, starts, wanted)
            if not told:
                continue
            async with self._database.connection() as connection:
                lower = await gap_store.of_lower_events(connection, told, order)
            events = _connected(starts, {i: e for i, e in told.items() if i not in lower})
            if events and await self._take(room, server, _Gap(starts, order), events):
                return True
        return False

    async def event_at(
        self, room: LiveRoom, ts: int, gap: int, nearest: int | None, *, backwards: bool
    ) -> bool:
        """Ask others for the event nearest to a time, which may be in the gap at an order; have it
        and what leads to it, if it is nearer than ours (its time). Did we get anything?

        server-server-api#get_matrixfederationv1timestamp_to_eventroomid
        """
        distance = 2**63 if nearest is None else abs(ts - nearest)
        lock = self._locks.setdefault(room.room_id, asyncio.Lock())
        async with lock:
            for server in self._servers(room):
                event_id, its_ts = await self._nearest(room, server, ts, backwards=backwards)
                if (its_ts > ts if backwards else its_ts < ts) or abs(ts - its_ts) >= distance:
                    continue
                if event_id in await self._gaps.known(room, [event_id]):
                    continue
                told = await self._ask(room, server, [event_id], AT_LEAST)
                events = _connected([event_id], told)
                far = _Gap([event_id], gap, is_far=True)
                if events and await self._take(room, server, far, events):
                    return True
        return False

    async def _nearest(
        self, room: LiveRoom, server: str, ts: int, *, backwards: bool
    ) -> tuple[str, int]:
        """Its id and its time, as the server says; none is infinitely far away."""
        query = [("ts", str(ts)), ("dir", "b" if backwards else "f")]
        path = path_to("/_matrix/federation/v1/timestamp_to_event", room.room_id, query=query)
        try:
            answer = await self._gaps.client.get(server, path)
        except MatrixError as error:
            log.info("no event", room_id=room.room_id, server=server, reason=error.message)
            return "", 2**64
        event_id, its_ts = answer.get("event_id"), answer.get("origin_server_ts")
        if not is_event_id(event_id) or type(its_ts) is not int:
            return "", 2**64
        return event_id, its_ts

    def _servers(self, room: LiveRoom) -> list[str]:
        ours = room.joined_servers.keys() - {self._gaps.server_name}
        ranked = [name for name, _ in room.joined_servers.most_common() if name in ours]
        return ranked[:MAX_SERVERS]

    async def _ask(
        self, room: LiveRoom, server: str, starts: Sequence[str], limit: int
    ) -> dict[str, Event]:
        """What the server tells of the time before the starts, checked 1 to 3; by event id."""
        query = [*(("v", event_id) for event_id in starts), ("limit", str(limit))]
        path = path_to("/_matrix/federation/v1/backfill", room.room_id, query=query)
        try:
            answer = await self._gaps.client.get(server, path, TERMS)
        except MatrixError as error:
            log.info("no history", room_id=room.room_id, server=server, reason=error.message)
            return {}
        pdus = answer.get("pdus")
        pdus = pdus[:MAX_EVENTS] if isinstance(pdus, list) else []
        verified = await self._gaps.verifier.verify(pdus, room.rules, room.room_id, is_history=True)
        return {event.event_id: event for event in verified.events}

    async def _take(self, room: LiveRoom, server: str, gap: _Gap, events: Sequence[Event]) -> bool:
        """Store what we don't have; was there any?"""
        origins = {event.event_id: server for event in events}
        await self._gaps.fetch_missing_auth(room, events, origins)
        async with room.lock:
            if room.dropped:
                raise Unavailable("The room is being read again. Try again in a moment.")
            async with self._database.connection() as connection:
                changes = await self._changes(room, connection, gap, events)
            if not changes:
                return False
            committed = self._writer.submit(*changes)
        await committed
        return True

    async def _changes(
        self, room: LiveRoom, connection: Connection, gap: _Gap, events: Sequence[Event]
    ) -> list[EventChange]:
        source = EventSource(self._rooms, room, connection)
        await source.load([event.event_id for event in events])
        events = _up_to_ours(gap.missing, events, source)
        cited = {id_ for e in events for id_ in (*e.auth_events, *e.prev_events)}
        cited.update(event.redacts for event in events if event.redacts is not None)
        create_id = create_id_of(room.rules, room.room_id)
        if create_id is not None:
            cited.add(create_id)
        awaited = await Awaited.load(connection, room, [event.event_id for event in events])
        await source.load([*cited, *awaited.redaction_ids()])
        if not events:
            return []
        place = await _place(connection, room, gap, events)
        if place is None:
            return []
        if room.dropped:  # meanwhile: what they cite may never have been committed
            raise Unavailable("The room is being read again. Try again in a moment.")
        past = Past(room, source, awaited, self._writer)
        return self._judge(past, events, place)

    def _judge(self, past: Past, events: Sequence[Event], place: _Place) -> list[EventChange]:
        """No await in here: numbers are given out. Older events are judged first."""
        orders = {
            event.event_id: place.before - (index + 1) * place.step
            for index, event in enumerate(events)
        }
        changes = []
        for event in in_order(events):
            auth = [past.source.find(id_) for id_ in event.auth_events]
            found = [stored for stored in auth if stored is not None]
            if len(found) == len(auth):
                changes += past.changes(event, found, orders[event.event_id])
        return changes


def _connected(starts: Iterable[str], events: Mapping[str, Event]) -> list[Event]:
    """The events that are reached from the starts by prev_events, the newest first."""
    reached: dict[str, Event] = {}
    stack = [event_id for event_id in starts if event_id in events]
    while stack:
        event_id = stack.pop()
        if event_id not in reached:
            reached[event_id] = events[event_id]
            stack.extend(id_ for id_ in events[event_id].prev_events if id_ in events)
    return in_order(reached.values())[::-1]


def _up_to_ours(starts: Iterable[str], events: Iterable[Event], source: EventSource) -> list[Event]:
    """Of the events those that lead back from the starts to what has a place already.

    What lies beyond that belongs into another gap.
    """
    fresh = {}
    for event in events:
        known = source.find(event.event_id)
        if known is None or known.flags & Flag.OUTLIER:
            fresh[event.event_id] = event
    return _connected(starts, fresh)


async def _place(
    connection: Connection, room: LiveRoom, gap: _Gap, events: Sequence[Event]
) -> _Place | None:
    """Where the events (the newest first) go: right below the gap's end, as far as there is room,
    or somewhere within the gap."""
    count = len(events)
    before, older = gap.before, await gap_store.highest_below(connection, room.number, gap.before)
    if gap.is_far and older is not None:
        before -= (before - older) // 2
        if before - older <= count:
            return None
    elif gap.is_far:
        between = min(MAX_BETWEEN, max(0, room.head.depth - events[0].depth))
        before -= between * ORDER_STEP
    if older is None:
        return _Place(before // ORDER_STEP * ORDER_STEP, ORDER_STEP)
    if before - older > count:
        # Most of the room is left for what is fetched later.
        return _Place(before, max(1, min(ORDER_STEP, (before - older) // (16 * (count + 1)))))
    lowest = await gap_store.lowest(connection, room.number)
    assert lowest is not None
    return _Place(lowest // ORDER_STEP * ORDER_STEP, ORDER_STEP)
