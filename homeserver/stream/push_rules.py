"""What decides about notifications of local users, in memory; rules as `m.push_rules` account data.

Rules of this file: what is stored (account data of the type `m.push_rules`) is only what the user
changed; what is served is filled up with the server's defaults on the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from homeserver.lru_cache import LruCache
from homeserver.protocol.push_defaults import Defaults
from homeserver.protocol.push_evaluation import CompiledRules, compiled_in_room
from homeserver.protocol.push_rules import UNCHANGED, decode_rules, ruleset_json
from homeserver.protocol.push_sets import number_in_room
from homeserver.store import account_data as account_data_store
from homeserver.store import push_rule_history as history_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.store.push_rule_history import KEPT
from homeserver.stream.changes import AccountDataChange, Change
from homeserver.stream.ignored_users import IGNORED_USERS, ignored_users

PUSH_RULES: Final = "m.push_rules"


def decides_push(row: AccountDataRow) -> bool:
    """Whether this decides which events notify its user."""
    return row.type in (PUSH_RULES, IGNORED_USERS) and not row.room_id


def is_push_rules(row: AccountDataRow) -> bool:
    return row.type == PUSH_RULES and not row.room_id


def unchanged_row(user_id: str) -> AccountDataRow:
    """The push rules of a user who never changed any."""
    return AccountDataRow(user_id, "", PUSH_RULES, UNCHANGED, 0)


class UserPush(Struct, frozen=True):
    """What decides which events notify a user: their rules as they are stored, those that they had
    earlier (with the position up to which they held), and whom they ignore."""

    stored: bytes = UNCHANGED
    history: tuple[tuple[int, bytes], ...] = ()
    ignored: frozenset[str] = frozenset()

    def set_at(self, room_id: str, position: int) -> int:
        """The number of the rule set that the user was on in a room at a stream position."""
        for until, stored in self.history:
            if position < until:
                return number_in_room(stored, room_id)
        return number_in_room(self.stored, room_id)

    def after(self, row: AccountDataRow) -> UserPush:
        """With a change of the user's account data."""
        if row.type == IGNORED_USERS:
            return replace(self, ignored=ignored_users(row.content))
        history = (*self.history, (row.position, self.stored))[-KEPT:]
        return replace(self, stored=row.content, history=history)


class LivePushRules:
    """What decides about notifications of at most `capacity` users, kept current by the writer.

    `defaults` are the rules that everybody has.
    """

    def __init__(self, database: Database, defaults: Defaults, *, capacity: int) -> None:
        self._database = database
        self.defaults = defaults
        self._users: LruCache[str, UserPush] = LruCache(capacity)
        self._loads: list[set[str]] = []

    def served(self, user_id: str, stored: bytes) -> bytes:
        """The content of the `m.push_rules` event that the user's clients get.

        client-server-api#mpush_rules
        """
        return b'{"global":%b}' % ruleset_json(decode_rules(stored), self.defaults, user_id)

    def in_room(self, stored: bytes, room_id: str) -> CompiledRules:
        """Of stored rules what can matter in a room, ready to be evaluated."""
        return compiled_in_room(stored, room_id, self.defaults)

    def peek(self, user_id: str) -> UserPush | None:
        """The user's, if it is in memory."""
        return self._users.get(user_id)

    async def get(self, user_id: str) -> UserPush:
        known = self._users.get(user_id)
        return known if known is not None else (await self.get_many([user_id]))[user_id]

    async def get_many(self, user_ids: Iterable[str]) -> dict[str, UserPush]:
        """Each user's; two queries for those that aren't in memory."""
        found: dict[str, UserPush] = {}
        missing: list[str] = []
        for user_id in user_ids:
            known = self._users.get(user_id)
            if known is not None:
                found[user_id] = known
            else:
                missing.append(user_id)
        if missing:
            found |= await self._load(missing)
        return found

    async def _load(self, user_ids: Sequence[str]) -> dict[str, UserPush]:
        loaded: dict[str, UserPush] = {}
        missing = set(user_ids)
        while missing:
            changed: set[str] = set()
            self._loads.append(changed)
            try:
                read = await self._read(list(missing))
            finally:
                self._loads.remove(changed)
            # What was published during the query may be newer than what the query found.
            loaded |= {u: push for u, push in read.items() if u not in changed}
            missing &= changed
        for user_id, push in loaded.items():
            self._users.put(user_id, push)
        return loaded

    async def _read(self, user_ids: Sequence[str]) -> dict[str, UserPush]:
        async with self._database.connection() as connection:
            data = await account_data_store.of_users(
                connection, user_ids, (PUSH_RULES, IGNORED_USERS)
            )
            history = await history_store.of_users(connection, user_ids)
        return {
            user_id: UserPush(
                data.get((user_id, PUSH_RULES), UNCHANGED),
                history.get(user_id, ()),
                ignored_users(data.get((user_id, IGNORED_USERS), b"{}")),
            )
            for user_id in user_ids
        }

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if type(change) is AccountDataChange and decides_push(change.row):
                known = self._users.get(change.row.user_id)
                for loading in self._loads:
                    loading.add(change.row.user_id)
                if known is not None:
                    self._users.put(change.row.user_id, known.after(change.row))

    def fail(self, changes: Sequence[Change]) -> None:
        """These were not committed, or nobody knows: read them again (called by the writer)."""
        for change in changes:
            if type(change) is AccountDataChange:
                for loading in self._loads:
                    loading.add(change.row.user_id)
                self._users.discard(change.row.user_id)
