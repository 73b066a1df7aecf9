"""Events by id: first from memory, else from Postgres, many at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from homeserver.lru_cache import LruCache
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.store import events as event_store
from homeserver.store import rooms as room_store
from homeserver.store.database import Connection
from homeserver.store.events import EventRow
from homeserver.stream.stored_event import StoredEvent

REDACTIONS = 1000
"""So many of the newest redactions are remembered: far more than come while a query is answered."""


class EventCache:
    """The most recently used events, at most `capacity`, with what they refer to.

    `rules_of` gives the room version of a room number; it may load.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._events: OrderedDict[str, StoredEvent] = OrderedDict()
        self._redactions: LruCache[str, StoredEvent] = LruCache(REDACTIONS)
        self.rules: dict[int, RoomVersion] = {}
        """The versions of the rooms (by number) that were ever looked at."""

    def peek(self, event_id: str) -> StoredEvent | None:
        """The event if it is in memory."""
        stored = self._events.get(event_id)
        if stored is not None:
            self._events.move_to_end(event_id)
        return stored

    def put(self, stored: StoredEvent) -> StoredEvent:
        """Keep an event; returns the one object for it that is shared by all."""
        known = self._events.setdefault(stored.event_id, stored)
        self._events.move_to_end(stored.event_id)
        if len(self._events) > self._capacity:
            self._events.popitem(last=False)
        return known

    def renew(self, stored: StoredEvent) -> None:
        """Keep an event that was just committed, whoever may have read it a moment too early."""
        self._events[stored.event_id] = stored
        self.put(stored)

    def drop(self, event_id: str) -> None:
        """Forget an event whose commit failed."""
        self._events.pop(event_id, None)

    def redacted(self, event_id: str, redaction: StoredEvent) -> None:
        """A redaction was committed: who is reading its target learns of it, too."""
        self._redactions.put(event_id, redaction)

    async def adopt(
        self,
        connection: Connection,
        rows: Sequence[EventRow],
        rules_of: Callable[[int], RoomVersion],
    ) -> list[StoredEvent]:
        """Rows as shared events, in their order, with what they replace and their redactions.

        At most three queries, whatever the number of rows.
        """
        found: dict[str, StoredEvent] = {}
        fresh: list[StoredEvent] = []
        for row in rows:
            if row.event_id not in found:
                known = self.peek(row.event_id)
                if known is None:
                    known = StoredEvent(row, rules_of(row.room_number))
                    fresh.append(known)
                found[row.event_id] = known
        await self._link(connection, fresh, rules_of)
        # Only now, so that nobody meets an event that doesn't know yet that it was redacted.
        for stored in fresh:
            redaction = self._redactions.get(stored.event_id)
            if redaction is not None:
                stored.redact_with(redaction)
            found[stored.event_id] = self.put(stored)
        return [found[row.event_id] for row in rows]

    async def _link(
        self,
        connection: Connection,
        fresh: Sequence[StoredEvent],
        rules_of: Callable[[int], RoomVersion],
    ) -> None:
        numbers = {n for s in fresh for n in (s.replaces, s.redacted_by) if n is not None}
        if not numbers:
            return
        local = {s.number: s for s in fresh}
        missing = numbers - local.keys()
        for row in await event_store.by_numbers(connection, missing) if missing else ():
            known = self.peek(row.event_id)
            local[row.number] = known or StoredEvent(row, rules_of(row.room_number))
        second = {
            n
            for n in (local[m].redacted_by for m in missing if m in local)
            if n is not None and n not in local
        }
        for row in await event_store.by_numbers(connection, second) if second else ():
            local[row.number] = StoredEvent(row, rules_of(row.room_number))
        for stored in (*fresh, *(local[m] for m in missing if m in local)):
            if stored.redacted_by is not None and stored.redaction is None:
                stored.redaction = local.get(stored.redacted_by)
        for stored in fresh:
            if stored.replaces is not None and stored.replaces in local:
                stored.replace(local[stored.replaces])

    async def get_many(
        self,
        connection: Connection,
        event_ids: Iterable[str],
        rules_of: Callable[[int], RoomVersion],
    ) -> dict[str, StoredEvent]:
        """The events with these ids that we have."""
        found: dict[str, StoredEvent] = {}
        missing: list[str] = []
        for event_id in event_ids:
            stored = self.peek(event_id)
            if stored is None:
                missing.append(event_id)
            else:
                found[event_id] = stored
        if missing:
            rows = await event_store.by_ids(connection, missing)
            # A client may name an event of any room, also of one that isn't in memory.
            await self.learn_rules(connection, {row.room_number for row in rows})
            for stored in await self.adopt(connection, rows, rules_of):
                found[stored.event_id] = stored
        return found

    async def learn_rules(self, connection: Connection, room_numbers: Iterable[int]) -> None:
        """Make `rules` hold the versions of these rooms; a query only if it lacks any."""
        unknown = [number for number in room_numbers if number not in self.rules]
        for row in await room_store.by_numbers(connection, unknown) if unknown else ():
            self.rules[row.room_number] = ROOM_VERSIONS[row.version]
