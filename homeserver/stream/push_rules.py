"""The push rules of local users, in memory and as `m.push_rules` of their account data.

Rules of this file: what is stored (account data of the type `m.push_rules`) is only what the user
changed; what is served is filled up with the server's defaults on the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from homeserver.lru_cache import LruCache
from homeserver.protocol.push_defaults import default_rules
from homeserver.protocol.push_evaluation import CompiledRules, compiled_defaults, compiled_rules
from homeserver.protocol.push_rules import NO_CHANGES, decode_rules, encode_rules, ruleset_json
from homeserver.store import account_data as account_data_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange, Change

PUSH_RULES: Final = "m.push_rules"
DEFAULTS: Final = default_rules()
UNCHANGED: Final = encode_rules(NO_CHANGES)
"""What is stored of a user who changed nothing (or took everything back)."""


def is_push_rules(row: AccountDataRow) -> bool:
    return row.type == PUSH_RULES and not row.room_id


def served_content(row: AccountDataRow) -> bytes:
    """The content of the `m.push_rules` event that clients get. client-server-api#mpush_rules"""
    return b'{"global":%b}' % ruleset_json(decode_rules(row.content), DEFAULTS, row.user_id)


def unchanged_row(user_id: str) -> AccountDataRow:
    """The push rules of a user who never changed any."""
    return AccountDataRow(user_id, "", PUSH_RULES, UNCHANGED, 0)


class LivePushRules:
    """The rules of at most `capacity` users, in their stored form, kept current by the writer."""

    def __init__(self, database: Database, *, capacity: int) -> None:
        self._database = database
        self._stored: LruCache[str, bytes] = LruCache(capacity)

    async def stored(self, user_id: str) -> bytes:
        """A user's rules as they are stored (`decode_rules`)."""
        return (await self.stored_of_many([user_id]))[user_id]

    async def compiled(self, user_ids: Iterable[str]) -> dict[str, CompiledRules]:
        """The rules of each user, ready to be evaluated; equal rules are one object."""
        stored = await self.stored_of_many(user_ids)
        return {user_id: compiled(rules) for user_id, rules in stored.items()}

    async def stored_of_many(self, user_ids: Iterable[str]) -> dict[str, bytes]:
        """The stored rules of each user; one query for those that aren't in memory."""
        found: dict[str, bytes] = {}
        missing: list[str] = []
        for user_id in user_ids:
            known = self._stored.get(user_id)
            if known is not None:
                found[user_id] = known
            else:
                missing.append(user_id)
        if missing:
            found |= await self._load(missing)
        return found

    async def _load(self, user_ids: Sequence[str]) -> dict[str, bytes]:
        async with self._database.connection() as connection:
            rows = await account_data_store.of_users(connection, user_ids, PUSH_RULES)
        loaded: dict[str, bytes] = {}
        for user_id in user_ids:
            # What was published during the query is newer than what the query found.
            newer = self._stored.get(user_id)
            loaded[user_id] = rows.get(user_id, UNCHANGED) if newer is None else newer
            self._stored.put(user_id, loaded[user_id])
        return loaded

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if type(change) is AccountDataChange and is_push_rules(change.row):
                self._stored.put(change.row.user_id, change.row.content)

    def fail(self, changes: Sequence[Change]) -> None:
        """These were not committed, or nobody knows: read them again (called by the writer)."""
        for change in changes:
            if type(change) is AccountDataChange:
                self._stored.discard(change.row.user_id)


def compiled(stored: bytes) -> CompiledRules:
    """Stored rules, ready to be evaluated."""
    if stored == UNCHANGED:
        return compiled_defaults(DEFAULTS)
    return compiled_rules(stored, DEFAULTS)
