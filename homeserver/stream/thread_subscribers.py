"""Who is subscribed to the threads in which something is being said (MSC4306), in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from homeserver.lru_cache import LruCache
from homeserver.store import thread_subscriptions as subscription_store
from homeserver.store.database import Connection, Database
from homeserver.stream.changes import Change, ThreadSubscriptionChange

Thread = tuple[str, str]
"""Room id, id of the thread's root."""


class ThreadSubscribers:
    """The local subscribers of at most `capacity` threads, kept current by the writer."""

    def __init__(self, database: Database, *, capacity: int) -> None:
        self._database = database
        self._threads: LruCache[Thread, set[str]] = LruCache(capacity)
        self._loads: list[set[Thread]] = []

    def peek(self, thread: Thread) -> Collection[str]:
        """The subscribers of a thread that was asked for a moment ago."""
        return self._threads.get(thread) or ()

    async def load(self, thread: Thread, connection: Connection | None = None) -> Collection[str]:
        """Make `peek` answer for a thread; a query if it isn't in memory.

        `connection` is the caller's own, if it holds one.
        """
        known = self._threads.get(thread)
        while known is None:
            changed: set[Thread] = set()
            self._loads.append(changed)
            try:
                found = await self._read(thread, connection)
            finally:
                self._loads.remove(changed)
            # What was published during the query may be newer than what the query found.
            if thread not in changed:
                known = set(found)
                self._threads.put(thread, known)
        return known

    async def _read(self, thread: Thread, connection: Connection | None) -> list[str]:
        if connection is not None:
            return await subscription_store.subscribers(connection, *thread)
        async with self._database.connection() as own:
            return await subscription_store.subscribers(own, *thread)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if type(change) is ThreadSubscriptionChange:
                row = change.row
                thread = (row.room_id, row.thread_root_id)
                for loading in self._loads:
                    loading.add(thread)
                subscribers = self._threads.get(thread)
                if subscribers is not None and row.subscribed:
                    subscribers.add(row.user_id)
                elif subscribers is not None:
                    subscribers.discard(row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """These were not committed, or nobody knows: read them again (called by the writer)."""
        for change in changes:
            if type(change) is ThreadSubscriptionChange:
                thread = (change.row.room_id, change.row.thread_root_id)
                for loading in self._loads:
                    loading.add(thread)
                self._threads.discard(thread)
