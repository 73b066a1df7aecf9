"""Uploaded filters, remembered."""

from __future__ import annotations

import msgspec

from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.store import filters as filter_store
from homeserver.store.database import Database

REMEMBERED = 10_000


class Filters:
    """Filters by user and id; they never change once uploaded."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: LruCache[tuple[str, str], bytes] = LruCache(REMEMBERED)

    async def add(self, user_id: str, definition: JsonObject) -> str:
        """Keep a filter; returns its id."""
        text = msgspec.json.encode(definition, order="sorted")
        async with self._database.transaction() as connection:
            filter_id = str(await filter_store.add(connection, user_id, text))
        self._known.put((user_id, filter_id), text)
        return filter_id

    async def get(self, user_id: str, filter_id: str) -> bytes | None:
        """A filter's JSON, or None."""
        known = self._known.get((user_id, filter_id))
        if known is not None:
            return known
        if not (filter_id.isascii() and filter_id.isdigit() and len(filter_id) < 18):
            return None
        async with self._database.connection() as connection:
            found = await filter_store.get(connection, user_id, int(filter_id))
        if found is not None:
            self._known.put((user_id, filter_id), found)
        return found
