"""The rooms in memory: loaded many at once, kept current by what the writer publishes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakValueDictionary

from homeserver.lru_cache import LruCache
from homeserver.protocol.relations import AGGREGATED
from homeserver.protocol.room_versions import RoomVersion
from homeserver.store import accounts as account_store
from homeserver.store import receipts as receipt_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import ORDER_STEP
from homeserver.stream.changes import (
    Change,
    CompletionChange,
    EventChange,
    MembershipChange,
    OutliersChange,
    PartialRoomChange,
    ReceiptChange,
    TypingChange,
)
from homeserver.stream.event_cache import EventCache
from homeserver.stream.group_states import GroupStates
from homeserver.stream.live_room import (
    LiveRoom,
)
from homeserver.stream.relations import relation_row
from homeserver.stream.room_reader import RoomReader
from homeserver.stream.stored_event import StoredEvent

_ROOM_CHANGES: frozenset[type] = frozenset((MembershipChange, ReceiptChange, TypingChange))


TYPING_ROOMS = 10_000


class LiveRooms:
    """At most `capacity` rooms in memory, each with at least `timeline_length` newest events.

    A room with events on their way to the database is never let go: whoever loads it finds all
    that was acknowledged.
    """

    def __init__(
        self, database: Database, events: EventCache, *, capacity: int, timeline_length: int
    ) -> None:
        self._database = database
        self._capacity = capacity
        self._timeline_length = timeline_length
        self._rooms: OrderedDict[str, LiveRoom] = OrderedDict()
        self._loading: dict[str, asyncio.Future[None]] = {}
        self._rules = events.rules
        self._changed: OrderedDict[str, int] = OrderedDict()
        self.events = events
        self._reader = RoomReader(events)
        self.group_states = GroupStates()
        self.changed_floor = 0
        # Never stored, so what a room that is let go would forget.
        self._typing: LruCache[str, TypingChange] = LruCache(TYPING_ROOMS)
        self.relations_seen = 0
        self.erased: dict[str, int] = {}
        """Users who are erased, and the timeline order from which on they are."""
        self._receipts_lock = asyncio.Lock()
        self._numbering: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._rooms)

    def peek(self, room_id: str) -> LiveRoom | None:
        """The room if it is in memory."""
        return self._rooms.get(room_id)

    def numbering(self, room_id: str) -> asyncio.Lock:
        """Held from the look whether a room of another server has a number until one is committed:
        two who find none would give it two, and the rows of the second would be nobody's."""
        return self._numbering.setdefault(room_id, asyncio.Lock())

    def in_memory(self) -> Iterable[LiveRoom]:
        """All rooms that are in memory now."""
        return self._rooms.values()

    async def get(self, room_id: str) -> LiveRoom | None:
        """The room, or None if we don't have its state."""
        room = self._rooms.get(room_id)
        if room is not None:
            self._rooms.move_to_end(room_id)
            return room
        return (await self.get_many([room_id])).get(room_id)

    async def get_many(self, room_ids: Iterable[str]) -> dict[str, LiveRoom]:
        """These rooms, as far as we have their state; a fixed number of queries.

        A room may be dropped by the time that the caller has it: it still says what was committed,
        but who writes to it must look (`dropped`) once the room's lock is theirs.
        """
        wanted = list(room_ids)
        found = {r: self._rooms[r] for r in wanted if r in self._rooms}
        missing = [room_id for room_id in wanted if room_id not in found]
        while missing:
            for room_id, room in (await self._load(missing)).items():
                if room is not None:
                    found[room_id] = room
                else:
                    missing.remove(room_id)
            # What somebody else loaded is there now, or was dropped again: then it is our turn.
            found |= {r: self._rooms[r] for r in missing if r in self._rooms and r not in found}
            missing = [room_id for room_id in missing if room_id not in found]
        return found

    async def learn_erased(self) -> None:
        """Who is erased, at the server's start."""
        async with self._database.connection() as connection:
            erased = await account_store.erased(connection)
        self.erased |= {user_id: at * ORDER_STEP for user_id, at in erased.items()}

    async def erase(self, user_id: str, position: int) -> None:
        """Who comes to see a user's events after this position sees them redacted."""
        async with self._database.connection() as connection:
            await account_store.erase(connection, user_id, position)
        self.erased[user_id] = position * ORDER_STEP

    def add(self, room: LiveRoom) -> None:
        """Take in a room that is just being made."""
        self._rooms[room.room_id] = room
        self._rules[room.number] = room.rules
        self._evict()

    def drop(self, room_id: str) -> None:
        """Forget a room; the next to ask for it loads it anew."""
        room = self._rooms.pop(room_id, None)
        if room is not None:
            room.dropped = True
            for event_id in room.pending:
                self.events.drop(event_id)

    def changed_since(self, position: int) -> Iterable[tuple[str, int]]:
        """Rooms with news above a position (not below `changed_floor`), the newest first."""
        for room_id in reversed(self._changed):
            last = self._changed[room_id]
            if last <= position:
                return
            yield room_id, last

    def last_change(self, room_id: str) -> int:
        """The position of a room's newest news; 0 if there were none since the server started."""
        return self._changed.get(room_id, 0)

    def rules_of(self, room_number: int) -> RoomVersion:
        """The room version of a room that was loaded once."""
        return self._rules[room_number]

    async def learn_rules(self, connection: Connection, room_numbers: Iterable[int]) -> None:
        """Make `rules_of` answer for these rooms."""
        await self.events.learn_rules(connection, set(room_numbers))

    async def event(self, event_id: str) -> StoredEvent | None:
        """An event, from memory or from Postgres."""
        return (await self.get_events([event_id])).get(event_id)

    async def get_events(self, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
        """The events with these ids that we have; no query if they are in memory."""
        found: dict[str, StoredEvent] = {}
        missing: list[str] = []
        for event_id in event_ids:
            stored = self.events.peek(event_id)
            if stored is None:
                missing.append(event_id)
            else:
                found[event_id] = stored
        if missing:
            async with self._database.connection() as connection:
                found |= await self.events.get_many(connection, missing, self.rules_of)
        return found

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if type(change) is EventChange:
                self._apply_event(change)
            elif type(change) is OutliersChange:
                self._apply_outliers(change)
            elif type(change) in _ROOM_CHANGES:
                self._apply_to_room(change)
            elif type(change) is CompletionChange:
                self._apply_completion(change)
            elif type(change) is PartialRoomChange:
                room = self._rooms.get(change.room_id)
                if room is not None and room.entry is not change.row:
                    room.put_entry(change.row)

    def fail(self, changes: Sequence[Change]) -> None:
        """These changes were never committed: their rooms are read again (called by the writer)."""
        for change in changes:
            if isinstance(change, EventChange | OutliersChange | PartialRoomChange):
                self.drop(change.room_id)
            elif isinstance(change, CompletionChange):
                self._read_again(change)  # it may have been carried out

    def _apply_event(self, change: EventChange) -> None:
        room = self._rooms.get(change.room_id)
        stored = change.stored
        self.events.renew(stored)
        relation = relation_row(change)
        if relation is not None and relation.rel_type in AGGREGATED:
            self.relations_seen += 1
            for parent in self._held(room, relation.parent_id):
                parent.has_children = True
        if change.redacts is not None:
            self.events.redacted(change.redacts, stored)
            held = self._held(room, change.redacts)
            for target in held:
                target.redact_with(stored)
            if room is not None:
                room.redacted(next(iter(held), None), change.position)
        if change.in_timeline:
            self._changed[change.room_id] = change.position
            self._changed.move_to_end(change.room_id)
        if room is not None:
            room.apply(change, self._timeline_length)

    def _apply_outliers(self, change: OutliersChange) -> None:
        room = self._rooms.get(change.room_id)
        if room is not None:
            for row in change.rows:
                room.pending.pop(row.event_id, None)

    def _apply_completion(self, change: CompletionChange) -> None:
        """Nobody writes to the room meanwhile."""
        self._changed[change.room_id] = change.position
        self._changed.move_to_end(change.room_id)
        if change.taken_back is not None:
            self._read_again(change)
            return
        self._forget_states(change)
        room = self._rooms.get(change.room_id)
        if room is not None:
            room.complete(change)

    def _forget_states(self, change: CompletionChange) -> None:
        self.group_states.forget(upon for group in change.groups for upon in group.upon)

    def _read_again(self, change: CompletionChange) -> None:
        self._forget_states(change)
        for stored in change.taken_back.events if change.taken_back is not None else ():
            self.events.drop(stored.event_id)
        self.drop(change.room_id)

    def _held(self, room: LiveRoom | None, event_id: str) -> set[StoredEvent]:
        """An event as memory holds it: a timeline keeps what the cache has let go."""
        held = {s for s in (self.events.peek(event_id),) if s is not None}
        if room is not None:
            held.update(e.stored for e in room.timeline if e.stored.event_id == event_id)
        return held

    def _apply_to_room(self, change: Change) -> None:
        assert isinstance(change, MembershipChange | ReceiptChange | TypingChange)
        room = self._rooms.get(change.room_id)
        if not isinstance(change, MembershipChange):
            self._changed[change.room_id] = change.position
            self._changed.move_to_end(change.room_id)
        if isinstance(change, TypingChange):
            self._typing.put(change.room_id, change)
        if room is None:
            return
        if isinstance(change, MembershipChange):
            room.put_member(change.row)
        elif isinstance(change, ReceiptChange):
            room.put_receipt(change.row)
        else:
            room.typing, room.typing_position = change.user_ids, change.position

    def typed_in_since(self, since: int) -> list[str]:
        """The rooms in which somebody began or ceased to type after a position, as is known."""
        return [c.room_id for c in self._typing.values() if c.position > since]

    async def load_receipts(self, rooms: Iterable[LiveRoom]) -> None:
        """Make `receipts_since` answer for these rooms; at most one query."""
        wanted = [room for room in rooms if not room.receipts_loaded]
        if not wanted:
            return
        async with self._receipts_lock:
            missing = {room.number: room for room in wanted if not room.receipts_loaded}
            if missing:
                await self._load_receipts(missing)

    async def _load_receipts(self, missing: Mapping[int, LiveRoom]) -> None:
        for room in missing.values():
            room.receipts = OrderedDict()
        try:
            async with self._database.connection() as connection:
                rows = await receipt_store.of_rooms(connection, list(missing))
        except BaseException:
            for room in missing.values():
                room.receipts = None
            raise
        for row in rows:
            receipts = missing[row.room_number].receipts
            key = (row.user_id, row.receipt_type, row.thread_id)
            # A receipt that was published meanwhile is newer than the one read.
            if receipts is not None and key not in receipts:
                receipts[key] = row
        for room in missing.values():
            room.receipts = OrderedDict(
                sorted((room.receipts or {}).items(), key=lambda item: item[1].position)
            )
            room.receipts_loaded = True
            for row in room.receipts.values():
                room.note_read(row)

    def _evict(self) -> None:
        excess = len(self._rooms) - self._capacity
        if excess <= 0:
            return
        idle = [
            room_id
            for room_id, room in self._rooms.items()
            if not (room.pending or room.lock.locked() or (room.is_partial and room.joined_local))
        ]
        for room_id in idle[:excess]:
            self.drop(room_id)

    async def _load(self, room_ids: Sequence[str]) -> dict[str, LiveRoom | None]:
        """Load what nobody else is loading, wait for what somebody is.

        Gives what was read here; None where there is no such room.
        """
        others = [self._loading[r] for r in room_ids if r in self._loading]
        mine = [r for r in room_ids if r not in self._loading and r not in self._rooms]
        if not mine:
            await asyncio.wait(others)
            return {}
        done = asyncio.get_running_loop().create_future()
        for room_id in mine:
            self._loading[room_id] = done
        try:
            async with self._database.connection() as connection:
                rooms = await self._reader.read(connection, mine)
            for room in rooms:
                typing = self._typing.get(room.room_id)
                if typing is not None:
                    room.typing, room.typing_position = typing.user_ids, typing.position
                self._rooms[room.room_id] = room
            self._evict()
            return dict.fromkeys(mine) | {room.room_id: room for room in rooms}
        finally:
            for room_id in mine:
                del self._loading[room_id]
            done.set_result(None)
