"""The facts of rooms: written with the state that they follow, and held in memory for lists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.store import events as event_store
from homeserver.store import room_facts as fact_store
from homeserver.store.database import Connection, Database
from homeserver.store.room_facts import FACT_OF, RoomFacts, with_event
from homeserver.stream.changes import Change, CompletionChange, EventChange

CAPACITY = 50_000

FactEvents = dict[str, str | None]
"""For an event type the id of the event that is now its room's state; None: there is none now."""


class ListedRoom(Struct):
    """A room as lists see it. `bump`: position of the newest event that moves it up."""

    facts: RoomFacts
    bump: int


def changed_facts(change: EventChange) -> FactEvents:
    """Which of a room's facts a change touches."""
    return {
        state_change.key[0]: state_change.new
        for state_change in change.state_changes
        if state_change.key[1] == "" and state_change.key[0] in FACT_OF
    }


async def write_facts(connection: Connection, changes: Sequence[EventChange]) -> None:
    """Bring the facts up to what a batch leaves; its events must be in the transaction."""
    touched: dict[int, FactEvents] = {}
    contents: dict[str, JsonObject] = {}
    new_rooms = {change.row.room_number for change in changes if change.new_room is not None}
    for change in changes:
        facts = changed_facts(change)
        if facts:
            touched.setdefault(change.row.room_number, {}).update(facts)
            contents[change.row.event_id] = change.stored.event.content
    if not touched:
        return
    rows = {number: RoomFacts(number) for number in touched}
    old = touched.keys() - new_rooms
    for row in await fact_store.load(connection, old) if old else ():
        rows[row.room_number] = row
    wanted = {event_id for facts in touched.values() for event_id in facts.values()}
    unknown = [e for e in wanted if e is not None and e not in contents]
    for event in await event_store.by_ids(connection, unknown) if unknown else ():
        contents[event.event_id] = msgspec.json.decode(event.json)["content"]
    for number, facts in touched.items():
        for event_type, event_id in facts.items():
            content = None if event_id is None else contents.get(event_id)
            rows[number] = with_event(rows[number], event_type, content)
    await fact_store.put(connection, list(rows.values()))


class ListedRooms:
    """At most `CAPACITY` rooms, kept current by the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rooms: OrderedDict[int, ListedRoom] = OrderedDict()
        self._loads = 0
        self._touched: set[int] = set()

    def peek(self, room_number: int) -> ListedRoom | None:
        """The room if it is in memory."""
        return self._rooms.get(room_number)

    async def get_many(self, room_numbers: Iterable[int]) -> Mapping[int, ListedRoom]:
        """These rooms, as far as we have their state; two queries at most."""
        wanted = list(room_numbers)
        missing = [number for number in wanted if number not in self._rooms]
        loaded = await self._load(missing) if missing else {}
        found = {n: self._rooms.get(n) or loaded.get(n) for n in wanted}
        return {number: room for number, room in found.items() if room is not None}

    async def _load(self, missing: Sequence[int]) -> dict[int, ListedRoom]:
        """Read rooms; one that changes meanwhile is read, but not kept."""
        self._loads += 1
        try:
            async with self._database.connection() as connection:
                facts = {f.room_number: f for f in await fact_store.load(connection, missing)}
                bumps = await fact_store.bump_positions(connection, missing)
        finally:
            self._loads -= 1
            touched = set(self._touched)
            if not self._loads:
                self._touched.clear()
        loaded = {n: ListedRoom(facts.get(n, RoomFacts(n)), bump) for n, bump in bumps.items()}
        for number, room in loaded.items():
            if number not in touched:
                self._keep(number, room)
        return loaded

    def _keep(self, number: int, room: ListedRoom) -> None:
        self._rooms.setdefault(number, room)
        if len(self._rooms) > CAPACITY:
            self._rooms.popitem(last=False)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, EventChange):
                self._apply(change)
            elif isinstance(change, CompletionChange) and change.taken_back is not None:
                if self._loads:
                    self._touched.add(change.row.room_number)
                self._rooms.pop(change.row.room_number, None)

    def _apply(self, change: EventChange) -> None:
        number = change.row.room_number
        if self._loads:
            self._touched.add(number)
        if change.new_room is not None:
            self._keep(number, ListedRoom(RoomFacts(number), 0))  # Postgres has no more of it
        room = self._rooms.get(number)
        if room is None:
            return
        if change.head is not None:
            room.bump = max(room.bump, change.head.bump_position)
        for event_type, event_id in changed_facts(change).items():
            if event_id is not None and event_id != change.row.event_id:
                del self._rooms[number]  # state resolution chose an event that isn't at hand
                return
            content = None if event_id is None else change.stored.event.content
            room.facts = with_event(room.facts, event_type, content)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read everything again."""
        self._rooms.clear()
        if self._loads:
            kinds = EventChange | CompletionChange
            self._touched |= {c.row.room_number for c in changes if isinstance(c, kinds)}
