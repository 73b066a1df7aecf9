"""Whom local users ignore, in memory. client-server-api#ignoring-users"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeserver.lru_cache import LruCache
from homeserver.store import account_data as account_data_store
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange, Change

IGNORED_USERS = "m.ignored_user_list"


class IgnoredUsers:
    """The ignored users of at most `capacity` users, kept current by the writer."""

    def __init__(self, database: Database, *, capacity: int) -> None:
        self._database = database
        self._known: LruCache[str, frozenset[str]] = LruCache(capacity)

    async def of(self, user_id: str) -> frozenset[str]:
        """Whom a user ignores (never themselves); a query only the first time."""
        known = self._known.get(user_id)
        if known is not None:
            return known
        discards = self._known.discards
        async with self._database.connection() as connection:
            content = await account_data_store.get(connection, user_id, "", IGNORED_USERS)
        ignored = ignored_users(content or b"{}") - {user_id}
        self._known.put_read(user_id, ignored, discards)
        return ignored

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, AccountDataChange) and change.row.type == IGNORED_USERS:
                self._known.discard(change.row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read these again."""
        self.apply(changes)


def ignored_users(content: bytes) -> frozenset[str]:
    """The users whom an `m.ignored_user_list` names."""
    users = msgspec.json.decode(content).get("ignored_users")
    return frozenset(users) if isinstance(users, dict) else frozenset()
